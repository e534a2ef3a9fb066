//! Builds GGUF files for tests: right ones simply, broken ones on purpose.

use pagelm::DType;
use pagelm::gguf::{Array, Gguf, Strings, TensorInfo, Value, ValueType};

/// `GgufWriter::new().string("general.architecture", "llama").tensor("a", DType::F32, &[4], &bytes).finish()`.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    magic: [u8; 4],
    version: u32,
    key_count: Option<u64>,
    tensor_count: Option<u64>,
    keys: Vec<Vec<u8>>,
    tensors: Vec<RawTensor>,
    alignment: u64,
}

/// A tensor as the file says it, right or wrong.
#[derive(Clone, Debug)]
pub struct RawTensor {
    pub name: Vec<u8>,
    pub type_id: u32,
    pub dims: Vec<u64>,
    /// From the start of the data; by default after the tensor before, aligned.
    pub offset: Option<u64>,
    pub bytes: Vec<u8>,
}

impl RawTensor {
    pub fn new(name: &str, dtype: DType, dims: &[u64], bytes: &[u8]) -> Self {
        let (name, type_id) = (name.as_bytes().to_vec(), dtype.gguf_id());
        Self { name, type_id, dims: dims.to_vec(), offset: None, bytes: bytes.to_vec() }
    }
}

impl GgufWriter {
    pub fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            key_count: None,
            tensor_count: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
        }
    }

    /// A key with a value, in the narrowest of the types in use that holds it (u32 or u64, i32 or i64, f32 or f64).
    /// `general.alignment` also aligns what is written.
    pub fn kv(mut self, key: &str, value: Value) -> Self {
        if let ("general.alignment", Value::Uint(n)) = (key, &value)
            && n.is_power_of_two()
        {
            self.alignment = *n;
        }
        let (ty, payload) = encode(&value);
        self.raw_kv(key.as_bytes(), ty as u32, &payload)
    }

    pub fn string(self, key: &str, value: &str) -> Self {
        self.kv(key, Value::String(value.to_owned()))
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.kv(key, Value::Uint(value.into()))
    }

    pub fn f32(self, key: &str, value: f32) -> Self {
        self.kv(key, Value::Float(value.into()))
    }

    pub fn strings<S: AsRef<[u8]>>(self, key: &str, values: &[S]) -> Self {
        let mut strings = Strings::default();
        values.iter().for_each(|s| strings.push(s.as_ref()));
        self.kv(key, Value::Array(Array::Strings(strings)))
    }

    /// A key with any bytes as its name, any type number and any bytes as its value.
    pub fn raw_kv(mut self, key: &[u8], type_id: u32, payload: &[u8]) -> Self {
        let mut entry = text(key);
        entry.extend(type_id.to_le_bytes());
        entry.extend(payload);
        self.keys.push(entry);
        self
    }

    pub fn tensor(self, name: &str, dtype: DType, dims: &[u64], bytes: &[u8]) -> Self {
        self.raw_tensor(RawTensor::new(name, dtype, dims, bytes))
    }

    pub fn raw_tensor(mut self, tensor: RawTensor) -> Self {
        self.tensors.push(tensor);
        self
    }

    pub fn magic(mut self, magic: [u8; 4]) -> Self {
        self.magic = magic;
        self
    }

    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Declares this many keys instead of those there are.
    pub fn key_count(mut self, n: u64) -> Self {
        self.key_count = Some(n);
        self
    }

    /// Declares this many tensors instead of those there are.
    pub fn tensor_count(mut self, n: u64) -> Self {
        self.tensor_count = Some(n);
        self
    }

    /// The header alone, not padded.
    pub fn header(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        out.extend(self.keys.concat());
        let mut end = 0;
        for t in &self.tensors {
            let offset = t.offset.unwrap_or(end);
            end = offset.saturating_add(t.bytes.len() as u64).saturating_add(self.alignment - 1) / self.alignment
                * self.alignment;
            out.extend(text(&t.name));
            out.extend((t.dims.len() as u32).to_le_bytes());
            out.extend(t.dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(t.type_id.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out
    }

    /// The whole file: the data in the order of the tensors, each padded to the alignment.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = self.header();
        for t in &self.tensors {
            pad(&mut out, self.alignment);
            out.extend(&t.bytes);
        }
        out
    }
}

/// A string as a file holds it: its length, its bytes.
pub fn text(s: &[u8]) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s].concat()
}

/// An array as a file holds it: type, count, elements.
pub fn array(ty: ValueType, count: u64, elements: &[u8]) -> Vec<u8> {
    [&(ty as u32).to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

fn pad(out: &mut Vec<u8>, alignment: u64) {
    out.resize((out.len() as u64).next_multiple_of(alignment) as usize, 0);
}

fn encode(value: &Value) -> (ValueType, Vec<u8>) {
    match value {
        Value::Uint(v) => uints(&[*v]),
        Value::Int(v) => ints(&[*v]),
        Value::Float(v) if f64::from(*v as f32).to_bits() == v.to_bits() => {
            (ValueType::F32, (*v as f32).to_le_bytes().to_vec())
        }
        Value::Float(v) => (ValueType::F64, v.to_le_bytes().to_vec()),
        Value::Bool(v) => (ValueType::Bool, vec![u8::from(*v)]),
        Value::String(v) => (ValueType::String, text(v.as_bytes())),
        Value::Array(a) => {
            let (ty, elements) = match a {
                Array::Uint(v) => uints(v),
                Array::Int(v) => ints(v),
                Array::Float(v) => (ValueType::F32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
                Array::Bool(v) => (ValueType::Bool, v.iter().map(|v| u8::from(*v)).collect()),
                Array::Strings(v) => (ValueType::String, v.iter().flat_map(text).collect()),
            };
            (ValueType::Array, array(ty, a.len() as u64, &elements))
        }
    }
}

fn uints(v: &[u64]) -> (ValueType, Vec<u8>) {
    match v.iter().map(|v| u32::try_from(*v)).collect::<Result<Vec<_>, _>>() {
        Ok(v) => (ValueType::U32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Err(_) => (ValueType::U64, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
    }
}

fn ints(v: &[i64]) -> (ValueType, Vec<u8>) {
    match v.iter().map(|v| i32::try_from(*v)).collect::<Result<Vec<_>, _>>() {
        Ok(v) => (ValueType::I32, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Err(_) => (ValueType::I64, v.iter().flat_map(|v| v.to_le_bytes()).collect()),
    }
}

/// The file in `count` parts as llama-gguf-split makes them: metadata in the first one only.
pub fn in_parts(file: &[u8], count: usize) -> Vec<Vec<u8>> {
    let whole = Gguf::parse(file).unwrap();
    let each = whole.tensors.len().div_ceil(count);
    let part = |(i, tensors): (usize, &[TensorInfo])| {
        let meta = whole.meta.iter().filter(|_| i == 0);
        let w = meta.fold(GgufWriter::new(), |w, (key, value)| w.kv(key, value.clone()));
        let w = numbers(w, i, count, whole.tensors.len());
        let tensors = tensors.iter();
        let raw =
            |t: &TensorInfo| RawTensor::new(&t.name, t.dtype, &t.dims, &file[t.offset as usize..][..t.len as usize]);
        tensors.fold(w, |w, t| w.raw_tensor(raw(t))).finish()
    };
    whole.tensors.chunks(each).enumerate().map(part).collect()
}

/// Says which part of how many this is, and how many tensors they have together.
pub fn numbers(w: GgufWriter, no: usize, count: usize, tensors: usize) -> GgufWriter {
    w.u32("split.no", no as u32).u32("split.count", count as u32).u32("split.tensors.count", tensors as u32)
}
