//! Sources of tensor data, once a header is known.

use std::borrow::Cow;
use std::ops::Range;

use super::header::TensorInfo;
use crate::error::{Error, ErrorKind, Result};

/// A model whose bytes can be borrowed: in memory, or memory-mapped.
pub trait Source {
    /// All bytes of a tensor of the header that belongs to this source.
    fn tensor(&self, info: &TensorInfo) -> Result<Cow<'_, [u8]>>;

    /// A hint that these bytes of a tensor are not needed again soon: their memory may be released.
    fn used(&self, _: &TensorInfo, _: Range<usize>) {}
}

/// A GGUF file.
impl<T: AsRef<[u8]>> Source for T {
    fn tensor(&self, info: &TensorInfo) -> Result<Cow<'_, [u8]>> {
        let file = self.as_ref();
        let bytes = file.get(info.offset as usize..(info.offset + info.len) as usize);
        bytes.map(Cow::Borrowed).ok_or_else(|| {
            let e = Error::new(
                ErrorKind::GgufTruncated,
                format!("lies past the end of the file ({} bytes); is the download complete?", file.len()),
            );
            e.at(format!("tensor `{}`", info.name))
        })
    }
}
