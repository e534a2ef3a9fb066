//! A model whose weights must not be read.

use std::borrow::Cow;

use pagelm::Result;
use pagelm::gguf::{Source, TensorInfo};

/// Panics when a weight is wanted.
pub struct Unread;

impl Source for Unread {
    fn tensor(&self, info: &TensorInfo) -> Result<Cow<'_, [u8]>> {
        panic!("the weight `{}` was read", info.name)
    }
}
