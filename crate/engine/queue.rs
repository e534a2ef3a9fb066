//! Steps that are in flight.

use super::queue_depth::QueueDepth;
use crate::backend::Limits;
use crate::error::Result;

/// Those whose tokens the backend chooses, one after another.
pub(super) struct Queue {
    /// The sequence whose steps wait.
    pub owner: u64,
    /// Steps that were started and whose tokens were not taken.
    pub waiting: usize,
    /// Older steps whose tokens are no longer wanted.
    pub surplus: usize,
    /// The tokens of the oldest waiting step, or of the next to start.
    pub running: Vec<u32>,
    pub depth: QueueDepth,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            owner: 0,
            waiting: 0,
            surplus: 0,
            running: Vec::with_capacity(limits.max_tokens),
            depth: QueueDepth::new(),
        }
    }
}

/// Writes the mask of a row whose draw is masked, behind what is there: of one row after another, while their step runs.
pub(super) type Masks<'a> = &'a mut dyn FnMut(usize, &mut Vec<u32>) -> Result<()>;

/// What a step gives that was submitted and not read: a caller dropped its future.
pub(super) enum Unread {
    /// So many values.
    Logits(usize),
    /// So many tokens.
    Tokens(usize),
}
