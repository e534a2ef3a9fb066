//! Parses the header as a sequence of items: the length of each, its meaning, and which one follows.

use super::header::{Gguf, TensorInfo};
use super::item;
use super::layout;
use super::limits::{MAX_ARRAY, MAX_DIMS, MAX_KEYS, MAX_TENSORS, Room};
use super::meta::{Array, Meta, Strings, Value, ValueType};
use super::names::{clip, key, tensor};
use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The shortest entries: a name of one byte with a bool, and one with a single dim.
const MIN_KEY: u64 = 8 + 1 + 4 + 1;
const MIN_TENSOR: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// The item that comes next, with its length where the header gives it.
#[derive(Clone, Copy, Debug, Default)]
enum Next {
    #[default]
    Magic,
    Counts,
    KeyLen,
    Key(usize),
    Tag,
    Scalar(ValueType),
    StringLen,
    String(usize),
    ArrayHead,
    Elements(ValueType, usize),
    ElementLen,
    Element(usize),
    NameLen,
    Name(usize),
    Rank,
    Shape(usize),
    End,
}

/// The parser's state after some items.
#[derive(Debug, Default)]
pub(super) struct Parser {
    next: Next,
    version: u32,
    keys_left: u64,
    tensors_left: u64,
    /// The key or the tensor name that is being read.
    name: String,
    strings: Strings,
    strings_left: usize,
    meta: Meta,
    /// Offsets are relative to the data until the header ends.
    tensors: Vec<TensorInfo>,
}

impl Parser {
    /// The bytes of the next item, or `None` at the end of the header.
    // Functions of their own, as `step`: a browser optimises what is called often, not a loop that runs once.
    #[inline(never)]
    pub(super) fn need(&self) -> Option<usize> {
        Some(match self.next {
            Next::Magic | Next::Tag | Next::Rank => 4,
            Next::Counts => 20,
            Next::KeyLen | Next::StringLen | Next::ElementLen | Next::NameLen => 8,
            Next::Key(n) | Next::String(n) | Next::Element(n) | Next::Name(n) => n,
            Next::Scalar(ty) => ty.size(),
            Next::ArrayHead => 12,
            Next::Elements(ty, n) => n * ty.size(),
            Next::Shape(rank) => rank * 8 + 12,
            Next::End => return None,
        })
    }

    /// Takes one item, exactly as long as [`need`](Self::need) said. `room` is what follows it.
    #[inline(never)]
    pub(super) fn step(&mut self, bytes: &[u8], room: &Room) -> Result<()> {
        self.next = match self.next {
            Next::Magic => {
                item::magic(bytes)?;
                Next::Counts
            }
            Next::Counts => self.counts(bytes, room)?,
            Next::KeyLen => Next::Key(item::name_len(bytes)?),
            Next::Key(_) => self.key(bytes)?,
            Next::Tag => match item::value_type(item::u32_at(bytes, 0))? {
                ValueType::String => Next::StringLen,
                ValueType::Array => Next::ArrayHead,
                scalar => Next::Scalar(scalar),
            },
            Next::Scalar(ty) => self.value(item::scalar(ty, bytes)?),
            Next::StringLen => Next::String(item::string_len(bytes)?),
            Next::String(_) => self.value(Value::String(String::from_utf8_lossy(bytes).into_owned())),
            Next::ArrayHead => self.array_head(bytes, room)?,
            Next::Elements(ty, _) => self.value(Value::Array(item::elements(ty, bytes)?)),
            Next::ElementLen => Next::Element(item::string_len(bytes)?),
            Next::Element(_) => self.element(bytes),
            Next::NameLen => Next::Name(item::name_len(bytes)?),
            Next::Name(_) => {
                self.name = item::utf8(bytes)?;
                Next::Rank
            }
            Next::Rank => match item::u32_at(bytes, 0) {
                rank @ 1..=MAX_DIMS => Next::Shape(rank as usize),
                rank => bail!(GgufInvalid, "has {rank} dims, must have 1 to {MAX_DIMS}"),
            },
            Next::Shape(rank) => self.shape(bytes, rank)?,
            Next::End => unreachable!("the end needs no bytes"),
        };
        Ok(())
    }

    /// Checks what needs the whole header, and makes the tensors' offsets relative to the file.
    pub(super) fn finish(self, room: &Room) -> Result<Gguf> {
        layout::place(self.version, self.meta, self.tensors, room)
    }

    /// Names what was being read in `e`.
    pub(super) fn place(&self, e: Error, pos: u64) -> Error {
        let e = e.at(format!("byte {pos}"));
        match self.next {
            Next::Magic | Next::Counts | Next::End => e,
            Next::KeyLen | Next::Key(_) => e.at(format!("key {} of the metadata", self.meta.iter().len())),
            Next::NameLen | Next::Name(_) => e.at(format!("tensor {}", self.tensors.len())),
            Next::Rank | Next::Shape(_) => e.at(tensor(&self.name)),
            Next::ElementLen | Next::Element(_) => e.at(format!("string {}", self.strings.len())).at(key(&self.name)),
            _ => e.at(key(&self.name)),
        }
    }

    fn counts(&mut self, bytes: &[u8], room: &Room) -> Result<Next> {
        self.version = item::version(item::u32_at(bytes, 0))?;
        self.tensors_left = item::u64_at(bytes, 4);
        self.keys_left = item::u64_at(bytes, 12);
        if self.tensors_left > MAX_TENSORS {
            bail!(GgufInvalid, "declares {} tensors, the limit is {MAX_TENSORS}", self.tensors_left);
        }
        if self.keys_left > MAX_KEYS {
            bail!(GgufInvalid, "declares {} keys, the limit is {MAX_KEYS}", self.keys_left);
        }
        room.claim(self.keys_left * MIN_KEY + self.tensors_left * MIN_TENSOR)?;
        Ok(self.next_entry())
    }

    fn next_entry(&self) -> Next {
        match (self.keys_left, self.tensors_left) {
            (0, 0) => Next::End,
            (0, _) => Next::NameLen,
            _ => Next::KeyLen,
        }
    }

    fn key(&mut self, bytes: &[u8]) -> Result<Next> {
        self.name = item::utf8(bytes)?;
        if self.meta.get(&self.name).is_some() {
            bail!(GgufInvalid, "duplicate key `{}`", clip(&self.name));
        }
        Ok(Next::Tag)
    }

    fn value(&mut self, value: Value) -> Next {
        self.meta.insert(std::mem::take(&mut self.name), value);
        self.keys_left -= 1;
        self.next_entry()
    }

    fn array_head(&mut self, bytes: &[u8], room: &Room) -> Result<Next> {
        let (ty, count) = (item::value_type(item::u32_at(bytes, 0))?, item::u64_at(bytes, 4));
        if ty == ValueType::Array {
            bail!(GgufInvalid, "arrays of arrays are not supported");
        }
        if count > MAX_ARRAY {
            bail!(GgufInvalid, "declares {count} elements, the limit is {MAX_ARRAY}");
        }
        // A string has its length of 8 bytes at least.
        room.claim(count * if ty == ValueType::String { 8 } else { ty.size() as u64 })?;
        if ty != ValueType::String {
            return Ok(Next::Elements(ty, count as usize));
        }
        self.strings_left = count as usize;
        Ok(self.next_element())
    }

    fn element(&mut self, bytes: &[u8]) -> Next {
        self.strings.push(bytes);
        self.strings_left -= 1;
        self.next_element()
    }

    fn next_element(&mut self) -> Next {
        if self.strings_left > 0 {
            return Next::ElementLen;
        }
        let strings = std::mem::take(&mut self.strings);
        self.value(Value::Array(Array::Strings(strings)))
    }

    /// `bytes`: the dims, the type, the offset.
    fn shape(&mut self, bytes: &[u8], rank: usize) -> Result<Next> {
        let dims: Vec<u64> = (0..rank).map(|i| item::u64_at(bytes, i * 8)).collect();
        let id = item::u32_at(bytes, rank * 8);
        let Some(dtype) = DType::from_gguf(id) else {
            match DType::other_name(id) {
                Some(name) => bail!(UnsupportedType, "unsupported type {name} (number {id}); use another quantisation"),
                None => bail!(GgufInvalid, "unknown type number {id}; was the file written by a newer program?"),
            }
        };
        let len = layout::tensor_bytes(dtype, &dims)?;
        let offset = item::u64_at(bytes, rank * 8 + 4);
        self.tensors.push(TensorInfo { name: std::mem::take(&mut self.name), dtype, dims, offset, len });
        self.tensors_left -= 1;
        Ok(self.next_entry())
    }
}
