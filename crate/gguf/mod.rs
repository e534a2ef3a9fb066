//! GGUF files (version 2 and 3): the header, the metadata and where each tensor's bytes lie.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Everything here comes from outside, so every
//! length is checked against a cap and against the bytes that are left before anything is allocated.

mod item;
mod layout;
mod meta;
mod parse;
mod read;
mod source;
mod split;

pub use meta::{Array, Meta, Strings, Value, ValueType};
pub use parse::{MAX_ARRAY, MAX_DIMS, MAX_KEYS, MAX_NAME, MAX_STRING, MAX_TENSORS};
pub use read::{MAX_HEADER, MEMORY_BASE, MEMORY_FACTOR, Progress, Reader};
pub use source::Source;

use crate::dtype::DType;
use crate::error::Result;

/// A parsed header.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    pub version: u32,
    pub meta: Meta,
    pub tensors: Vec<TensorInfo>,
    pub alignment: u64,
    /// Where the tensor data starts, in bytes from the start of the file.
    pub data_offset: u64,
}

/// One tensor: its type, its shape and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
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
    /// Reads the header at the start of a whole file.
    pub fn parse(file: &[u8]) -> Result<Gguf> {
        let mut reader = Reader::new(Some(file.len() as u64));
        match reader.push(file)? {
            Progress::Done(gguf) => Ok(*gguf),
            Progress::NeedMore => Err(reader.truncated()),
        }
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|t| t.name == name)
    }

    /// The end of the last tensor: the length that the file must have at least.
    pub fn end(&self) -> u64 {
        self.tensors.iter().map(|t| t.offset + t.len).max().unwrap_or(self.data_offset)
    }
}
