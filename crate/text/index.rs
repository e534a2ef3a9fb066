//! Finds ids by what they stand for, without a second copy of that.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::vocab;
use crate::bail;
use crate::error::Result;
use crate::gguf::Strings;

const EMPTY: u32 = u32::MAX;
/// A table that is at most half full has runs of a dozen; a longer one means keys that were chosen to collide.
const MAX_PROBES: usize = 4096;

/// A hash table of ids: the keys stay with the caller, who says which of them an id has.
pub(super) struct Table {
    slots: Vec<u32>,
    pub hasher: RandomState,
}

impl Table {
    /// Room for so many ids.
    pub(super) fn with_capacity(ids: usize) -> Self {
        Self { slots: vec![EMPTY; (ids.max(8) * 2).next_power_of_two()], hasher: RandomState::default() }
    }

    /// The slot of the id for which `same` holds, or the empty one where it belongs. `None` where too many are in the way.
    fn probe(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let start = hash as usize;
        (0..MAX_PROBES.min(self.slots.len())).map(|i| start.wrapping_add(i) & mask).find(|&slot| {
            let id = self.slots[slot];
            id == EMPTY || same(id)
        })
    }

    /// The place of the id for which `same` holds; empty where there was none. `None` where too many are in the way.
    pub(super) fn entry(&mut self, hash: u64, same: impl Fn(u32) -> bool) -> Option<(&mut u32, bool)> {
        let slot = self.probe(hash, same)?;
        let place = &mut self.slots[slot];
        let taken = *place != EMPTY;
        Some((place, taken))
    }

    pub(super) fn get(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        let id = self.slots[self.probe(hash, same)?];
        (id != EMPTY).then_some(id)
    }
}

/// Finds a token by its bytes, which stay where they are: in the `Strings` that every call must pass again.
pub(super) struct Index(Table);

impl Index {
    pub(super) fn with_capacity(tokens: usize) -> Self {
        Self(Table::with_capacity(tokens))
    }

    /// The index of all tokens as a file spells them. An empty token stands for nothing, so several of them are no
    /// contradiction.
    pub(super) fn of(tokens: &Strings) -> Result<Self> {
        let mut index = Self::with_capacity(tokens.len());
        for id in 0..tokens.len() as u32 {
            match index.insert(tokens, id) {
                Ok(()) => {}
                Err(other) if other == id => vocab::too_many(id)?,
                Err(_) if tokens.get(id as usize).is_none_or(<[u8]>::is_empty) => {}
                Err(other) => bail!(BadTokenizer, "tokens {other} and {id} have the same text"),
            }
        }
        Ok(index)
    }

    /// Adds `id`, or returns the id that has the same bytes already; `id` itself where too many are in the way. Call at
    /// most `tokens` times.
    // A function of its own, as `get`: a browser optimises what is called often, not a loop that runs once.
    #[inline(never)]
    pub(super) fn insert(&mut self, keys: &Strings, id: u32) -> Result<(), u32> {
        let key = keys.get(id as usize).unwrap_or_default();
        let hash = self.0.hasher.hash_one(key);
        match self.0.entry(hash, |id| keys.get(id as usize) == Some(key)) {
            Some((place, false)) => {
                *place = id;
                Ok(())
            }
            Some((place, true)) => Err(*place),
            None => Err(id),
        }
    }

    #[inline(never)]
    pub(super) fn get(&self, keys: &Strings, key: &[u8]) -> Option<u32> {
        self.0.get(self.0.hasher.hash_one(key), |id| keys.get(id as usize) == Some(key))
    }
}
