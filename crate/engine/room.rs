//! Room in the cache: which blocks and slots a sequence gets for a step, and who gives up theirs for it.

use super::cache::Held;
use super::{Engine, Sequence};
use crate::backend::BLOCK;
use crate::error::Result;
use crate::graph::CacheKind;

impl Engine {
    /// Refuses a sequence of another engine: what it holds are numbers of that one's cache.
    pub(super) fn owns(&self, sequence: &Sequence) -> Result<()> {
        if sequence.engine != self.id {
            crate::bail!(
                InvalidArgument,
                "the sequence belongs to another engine; save it there and restore it here, or start a new one"
            );
        }
        Ok(())
    }

    /// Gives a sequence the blocks of positions `at..end`: of its own if it is going to change them.
    pub(super) fn make_room(&mut self, sequence: &mut Sequence, at: usize, end: usize, own: bool) -> Result<()> {
        for k in 0..self.kinds.len() {
            for i in at / BLOCK..end.div_ceil(BLOCK) {
                self.make_block(sequence, self.kinds[k], i, own)?;
            }
        }
        Ok(())
    }

    /// The same for block `i` of one kind. If need be, idle sequences give up blocks, maybe this one's other holder its
    /// share.
    pub(super) fn make_block(&mut self, sequence: &mut Sequence, kind: CacheKind, i: usize, own: bool) -> Result<()> {
        loop {
            let old = match sequence.block(kind, i) {
                Some(block) if !own || block.holders() == 1 => return Ok(()),
                Some(block) => Some(block.id()),
                None => None,
            };
            let pool = &self.blocks[kind as usize];
            if let Some(new) = pool.take() {
                if let Some(old) = old {
                    self.backend.copy_block(kind, old, new.id())?;
                }
                sequence.set_block(kind, i, new);
                return Ok(());
            }
            if !self.idle.shrink(self.past) {
                let positions = pool.limit() * BLOCK;
                crate::bail!(
                    CacheFull,
                    "the sequences that run hold all {positions} positions of the cache; wait until one of them ends, or \
                     open the model with a larger cache"
                );
            }
        }
    }

    pub(super) fn begin_states(&mut self, sequence: &mut Sequence, kept: usize) -> Result<()> {
        if !self.past.recurrent {
            return Ok(());
        }
        for _ in 0..sequence.slots_wanted(kept) {
            let slot = self.take_slot(sequence)?;
            self.taken.push(slot);
        }
        sequence.begin_states(&mut self.taken);
        Ok(())
    }

    /// A free slot, if need be one of a checkpoint.
    pub(super) fn take_slot(&mut self, sequence: &mut Sequence) -> Result<Held> {
        loop {
            if let Some(slot) = self.slots.take() {
                return Ok(slot);
            }
            if !(self.idle.forget() || sequence.forget_saved()) {
                crate::bail!(
                    CacheFull,
                    "the sequences that run hold all {} recurrent states of the cache; wait until one of them ends, or open \
                     the model for more sequences",
                    self.slots.limit()
                );
            }
        }
    }

    /// Gives back what lies behind the window after `n` tokens.
    pub(super) fn release(&self, sequence: &mut Sequence, n: usize) {
        if let Some(window) = self.past.window {
            sequence.release(n, window);
        }
    }
}
