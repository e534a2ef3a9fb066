//! The options with which a model fits into the memory of a host.

use serde::Serialize;

use super::{Model, Options};
use crate::backend::{BLOCK, KvType, Memory};
use crate::error::Result;

/// The types of the cache to try where a caller names none: the usual one, and half of it.
pub const KV_TYPES: [KvType; 2] = [KvType::F16, KvType::Q8_0];

/// A shorter context than this is of no use to a chat.
const SHORTEST: usize = 512;

/// Options that fit, as close to those of a caller as they can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    /// Positions of the cache.
    pub context_length: usize,
    /// Type of the cache.
    pub kv_type: KvType,
    /// Bytes that the model then takes.
    pub memory: Memory,
    /// What differs from the caller's options: nothing if these fit.
    pub changes: Vec<Change>,
}

/// An option that had to change for want of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `kv-type` or `context-length`.
    pub code: &'static str,
    /// What it is instead, and what that saves.
    pub message: String,
}

impl Model {
    /// What fits into `room` bytes: the cache in the first of `kv_types` that leaves the context whole, else in the last of
    /// them with the longest context that fits. Fails with [`OutOfMemory`](crate::ErrorKind::OutOfMemory) where not even a
    /// short one does. The options are those that the model was made with.
    pub fn fit(&self, options: &Options, kv_types: &[KvType], room: u64) -> Result<Fit> {
        let wanted = self.limits.n_ctx;
        let sized = |kv_type, n_ctx| self.memory_of(&Options { kv_type, ..*options }, n_ctx);
        let Some((&first, &last)) = kv_types.first().zip(kv_types.last()) else {
            crate::bail!(InvalidArgument, "there is no type of the cache to try; name at least one");
        };
        let whole = kv_types.iter().copied().find(|kv_type| sized(*kv_type, wanted).total() <= room);
        let kv_type = whole.unwrap_or(last);
        let longest = || self.longest(room, &Options { kv_type, ..*options }) / BLOCK * BLOCK;
        let context_length = whole.map_or_else(longest, |_| wanted);
        if context_length < SHORTEST.min(wanted) {
            self.fits(room, &Options { kv_type, ..*options })?;
        }
        let mut changes = Vec::new();
        if kv_type != first {
            let saved = sized(first, context_length).kv.saturating_sub(sized(kv_type, context_length).kv) >> 20;
            let message = format!("a cache of {} takes {saved} MiB less than one of {}", kv_type.name(), first.name());
            changes.push(Change { code: "kv-type", message });
        }
        if context_length < wanted {
            let message = format!("a context of {wanted} tokens does not fit, one of {context_length} does");
            changes.push(Change { code: "context-length", message });
        }
        Ok(Fit { context_length, kv_type, memory: sized(kv_type, context_length), changes })
    }
}
