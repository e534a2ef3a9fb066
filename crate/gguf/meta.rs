//! Metadata values and typed access to them, with the key named in every error.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};

/// The type tag of a metadata value, as numbered in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names of the GGUF specification")]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
    };

    /// The type with this number in a file.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// Bytes of one value; 0 for strings and arrays, which say their own length.
    pub fn size(self) -> usize {
        use ValueType::*;
        match self {
            U8 | I8 | Bool => 1,
            U16 | I16 => 2,
            U32 | I32 | F32 => 4,
            U64 | I64 | F64 => 8,
            String | Array => 0,
        }
    }
}

/// One metadata value. Integers keep their sign only: the width in the file does not matter to a reader.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of any unsigned width.
    Uint(u64),
    /// Of any signed width.
    Int(i64),
    /// f32 or f64.
    Float(f64),
    /// One byte, 0 or 1.
    Bool(bool),
    /// UTF-8; anything else is replaced (U+FFFD).
    String(String),
    /// Values of one type.
    Array(Array),
}

/// An array of one type. Nested arrays are refused by the reader.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Of any unsigned width.
    Uint(Vec<u64>),
    /// Of any signed width.
    Int(Vec<i64>),
    /// The elements of an f32 array, which is the only float array in use (f64 is narrowed).
    Float(Vec<f32>),
    /// One byte each.
    Bool(Vec<bool>),
    /// Bytes, because tokens need not be UTF-8.
    Strings(Strings),
}

impl Array {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Array::Uint(v) => v.len(),
            Array::Int(v) => v.len(),
            Array::Float(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::Strings(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Many strings in one allocation. They need not be UTF-8: vocabularies hold what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Strings {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of string `i`; `None` past the end.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)? as usize;
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        Some(&self.bytes[start..end])
    }

    /// The bytes of each string, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i).expect("i < len"))
    }

    /// Appends a string. The reader caps a header well below 4 GiB.
    pub fn push(&mut self, s: &[u8]) {
        self.bytes.extend_from_slice(s);
        self.ends.push(u32::try_from(self.bytes.len()).expect("the reader caps a header below 4 GiB"));
    }
}

/// All metadata of a file, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    entries: BTreeMap<String, Value>,
}

impl Meta {
    /// The value of a key, whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    /// Returns `false` where the key was already there (and leaves the first value).
    pub fn insert(&mut self, key: String, value: Value) -> bool {
        use std::collections::btree_map::Entry;
        match self.entries.entry(key) {
            Entry::Vacant(e) => {
                e.insert(value);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> Result<&str> {
        self.string("general.architecture")
    }

    /// The full key of an architecture's own parameter: `llama.block_count` for `block_count`.
    pub fn arch_key(&self, name: &str) -> Result<String> {
        Ok(format!("{}.{name}", self.architecture()?))
    }

    /// A string that must be there.
    pub fn string(&self, key: &str) -> Result<&str> {
        required(key, self.opt_string(key)?)
    }

    /// A string; `None` where the key is absent.
    pub fn opt_string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |v| match v {
            Value::String(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// An integer that must be there and fit.
    pub fn u32(&self, key: &str) -> Result<u32> {
        required(key, self.opt_u32(key)?)
    }

    /// An integer of any type that fits; `None` where the key is absent.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an unsigned 32-bit integer", as_u32)
    }

    /// A float that must be there.
    pub fn f32(&self, key: &str) -> Result<f32> {
        required(key, self.opt_f32(key)?)
    }

    /// A float, rounded to f32; `None` where the key is absent.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a float", |v| match v {
            Value::Float(f) => Some(*f as f32),
            _ => None,
        })
    }

    /// A bool; `None` where the key is absent.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |v| match v {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// An array of any type; `None` where the key is absent.
    pub fn opt_array(&self, key: &str) -> Result<Option<&Array>> {
        self.typed(key, "an array", |v| match v {
            Value::Array(a) => Some(a),
            _ => None,
        })
    }

    /// An array of strings; `None` where the key is absent.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&Strings>> {
        self.typed(key, "an array of strings", |v| match v {
            Value::Array(Array::Strings(s)) => Some(s),
            _ => None,
        })
    }

    fn typed<'a, T>(&'a self, key: &str, want: &str, get: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        match self.entries.get(key) {
            None => Ok(None),
            Some(v) => match get(v) {
                Some(t) => Ok(Some(t)),
                None => Err(Error::new(ErrorKind::WrongKeyType, format!("must be {want}, is {}", v.type_name()))
                    .at(format!("key `{key}`"))),
            },
        }
    }
}

fn required<T>(key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| {
        Error::new(ErrorKind::MissingKey, "is not in the file; was it converted for this architecture?")
            .at(format!("key `{key}`"))
    })
}

fn as_u32(v: &Value) -> Option<u32> {
    match v {
        Value::Uint(u) => u32::try_from(*u).ok(),
        Value::Int(i) => u32::try_from(*i).ok(),
        _ => None,
    }
}

impl Value {
    fn type_name(&self) -> &'static str {
        match self {
            Value::Uint(_) | Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a bool",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
        }
    }
}
