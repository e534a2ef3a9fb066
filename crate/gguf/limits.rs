//! Limits on the lengths in a header, checked before anything is allocated.

use crate::bail;
use crate::error::Result;

/// Limits on what a header may claim, checked before anything is allocated. No file in use comes near any of them.
pub const MAX_KEYS: u64 = 1 << 16;
/// Tensors of a file.
pub const MAX_TENSORS: u64 = 1 << 17;
/// Bytes of the name of a key or tensor.
pub const MAX_NAME: u64 = 65535;
/// Bytes of a string value.
pub const MAX_STRING: u64 = 16 << 20;
/// Elements of an array.
pub const MAX_ARRAY: u64 = 16 << 20;
/// Dims of a tensor.
pub const MAX_DIMS: u32 = 4;

/// The most bytes that a header may have. The largest in use (vocabularies of 260 000 tokens with merges) have 12 MiB.
pub const MAX_HEADER: u64 = 64 << 20;

/// Where the reader is and what can still come.
#[derive(Debug)]
pub(super) struct Room {
    pub pos: u64,
    pub file_len: Option<u64>,
}

impl Room {
    /// Refuses an item that would need `n` more bytes than the file or the limit of a header has.
    pub(super) fn claim(&self, n: u64) -> Result<()> {
        if let Some(len) = self.file_len {
            let left = len.saturating_sub(self.pos);
            if n > left {
                bail!(GgufTruncated, "needs {n} bytes, the file has {left} more; is the download complete?");
            }
        }
        if n > MAX_HEADER - self.pos.min(MAX_HEADER) {
            bail!(GgufInvalid, "needs {n} bytes, which makes the header longer than the limit of {MAX_HEADER}");
        }
        Ok(())
    }
}
