//! What an engine needs to know that was opened for embeddings.

use crate::arch::Pooling;

/// How texts become vectors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Embeds {
    pub pooling: Pooling,
    /// Tokens see the ones after them: a text runs in one step.
    pub whole: bool,
}
