//! What a header says.

use std::fmt::{self, Write};

use super::meta::{Meta, Value};
use crate::dtype::DType;

/// A parsed header.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    /// Keys and their values.
    pub meta: Meta,
    /// In the order of the header, which need not be that of their data.
    pub tensors: Vec<TensorInfo>,
    /// Bytes to a multiple of which tensors are aligned.
    pub alignment: u64,
    /// Where the tensor data starts, in bytes from the start of the file.
    pub data_offset: u64,
}

/// One tensor: its type, its shape and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Such as `blk.0.attn_q.weight`.
    pub name: String,
    /// How its blocks are packed.
    pub dtype: DType,
    /// `ne0` first: the contiguous one. Never empty.
    pub dims: Vec<u64>,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes of the tensor.
    pub len: u64,
}

impl TensorInfo {
    /// The length of a row: `ne0`.
    pub fn cols(&self) -> usize {
        self.dims[0] as usize
    }

    /// How many rows there are: the product of all other dims.
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product::<u64>() as usize
    }
}

impl Gguf {
    /// The tensor of this name, by a scan of the list.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// The end of the last tensor: the length that the file must have at least.
    pub fn end(&self) -> u64 {
        self.tensors.iter().map(|t| t.offset + t.len).max().unwrap_or(self.data_offset)
    }

    /// A number that tells this header from those of other models: of its tensors and of its values, of arrays only their
    /// lengths.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        for (key, value) in self.meta.iter() {
            let done = match value {
                Value::Array(a) => write!(hash, "{key} {}", a.len()),
                value => write!(hash, "{key} {value:?}"),
            };
            done.expect("hashing does not fail");
        }
        write!(hash, "{:?}", self.tensors).expect("hashing does not fail");
        hash.0
    }
}

/// FNV-1a, <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>, of what is written.
struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.bytes().for_each(|b| self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Ok(())
    }
}
