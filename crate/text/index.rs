//! Finds a token by its bytes, without a second copy of the vocabulary.

use std::hash::{BuildHasher, RandomState};

use crate::gguf::Strings;

const EMPTY: u32 = u32::MAX;
/// A table that is at most half full has runs of a dozen; a longer one means tokens that were chosen to collide.
const MAX_PROBES: usize = 4096;

/// A hash table of ids: the keys stay where they are, in the `Strings` that every call must pass again.
pub(super) struct Index {
    slots: Vec<u32>,
    hasher: RandomState,
}

impl Index {
    pub(super) fn with_capacity(tokens: usize) -> Self {
        Self { slots: vec![EMPTY; (tokens.max(8) * 2).next_power_of_two()], hasher: RandomState::new() }
    }

    /// Adds `id`, or returns the id that has the same bytes already. Call at most `tokens` times.
    pub(super) fn insert(&mut self, keys: &Strings, id: u32) -> Result<(), u32> {
        let key = keys.get(id as usize).unwrap_or_default();
        match self.probe(keys, key) {
            Some(slot) if self.slots[slot] == EMPTY => {
                self.slots[slot] = id;
                Ok(())
            }
            Some(slot) => Err(self.slots[slot]),
            // Out of probes: counts as taken, so that building stays bounded.
            None => Err(id),
        }
    }

    pub(super) fn get(&self, keys: &Strings, key: &[u8]) -> Option<u32> {
        let id = self.slots[self.probe(keys, key)?];
        (id != EMPTY).then_some(id)
    }

    /// The slot that holds `key`, or the empty one where it belongs.
    fn probe(&self, keys: &Strings, key: &[u8]) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let start = self.hasher.hash_one(key) as usize;
        (0..MAX_PROBES.min(self.slots.len())).map(|i| start.wrapping_add(i) & mask).find(|&slot| {
            let id = self.slots[slot];
            id == EMPTY || keys.get(id as usize) == Some(key)
        })
    }
}
