//! GGUF files (version 2 and 3): the header, the metadata and where each tensor's bytes lie.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Everything here comes from outside, so every
//! length is checked against a cap and against the bytes that are left before anything is allocated.

mod header;
mod item;
mod layout;
mod limits;
mod meta;
mod names;
mod parse;
mod read;
mod source;
mod split;

pub use header::{Gguf, TensorInfo};
pub use limits::{MAX_ARRAY, MAX_DIMS, MAX_HEADER, MAX_KEYS, MAX_NAME, MAX_STRING, MAX_TENSORS};
pub use meta::{Array, Meta, Strings, Value, ValueType};
pub use read::{MEMORY_BASE, MEMORY_FACTOR, Progress, Reader};
pub use source::Source;
pub use split::SplitPart;
