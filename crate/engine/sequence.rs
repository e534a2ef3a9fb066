//! What the engine knows of one sequence: its tokens, and which parts of the cache hold their rows and states.

use super::cache::Held;
use super::images::Shown;
use crate::backend::{BLOCK, Segment};
use crate::graph::{CACHE_KINDS, CacheKind};

/// Positions behind a window that are kept, so that a conversation can go back a turn without running all of it again.
pub(super) const BEHIND_WINDOW: usize = 1024;

/// The most checkpoints of a sequence.
const MAX_SAVED: usize = 4;

/// What a model keeps of past tokens beside rows that stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    /// Whether it has recurrent states.
    pub recurrent: bool,
    /// How far back it sees in layers with a window, if it has some.
    pub window: Option<usize>,
}

impl Past {
    /// The first block that a token at position `n` needs of the layers with a window.
    fn first_block(self, n: usize) -> usize {
        self.window.map_or(0, |w| (n + 1).saturating_sub(w) / BLOCK)
    }
}

/// Tokens with their rows in the cache of an [`Engine`](super::Engine). Dropped, it frees what nobody shares with it.
pub struct Sequence {
    /// Of the engine whose cache it is in.
    pub(super) engine: u64,
    /// No other sequence of the engine has it.
    pub(super) id: u64,
    /// Row i holds position i.
    pub(super) tokens: Vec<u32>,
    /// How many of them the states have seen that cannot go back: recurrent ones and windows. Fewer than all after a
    /// rollback: then the tokens run again before the next step.
    pub(super) seen: usize,
    blocks: [Vec<Option<Held>>; CACHE_KINDS],
    /// Their numbers, as steps name them.
    tables: [Vec<u32>; CACHE_KINDS],
    /// Blocks of the window before this one were given back.
    released: usize,
    /// The recurrent states after `seen` tokens; `None` for zeros.
    pub(super) state: Option<Held>,
    /// Copies of them after fewer tokens, in order.
    saved: Vec<(usize, Held)>,
    /// The slot that the step in progress reads, those that it writes, and their numbers.
    from: Option<Held>,
    to: Vec<Held>,
    to_ids: Vec<u32>,
    /// The token of each row in the cache of the block for multi-token prediction: the one after the row's position.
    pub(super) mtp_tokens: Vec<u32>,
    /// How many of those rows belong to tokens that are still in the cache.
    pub(super) mtp_seen: usize,
    /// The images among the tokens, in order.
    pub(super) images: Vec<Shown>,
}

impl Sequence {
    /// Without tokens; room in tables for `n_ctx` of them.
    pub(super) fn new((engine, id): (u64, u64), n_ctx: usize, mtp: bool) -> Self {
        let mut new = Self {
            engine,
            id,
            tokens: Vec::new(),
            seen: 0,
            blocks: [(); CACHE_KINDS].map(|()| Vec::new()),
            tables: [(); CACHE_KINDS].map(|()| Vec::new()),
            released: 0,
            state: None,
            saved: Vec::new(),
            from: None,
            to: Vec::new(),
            to_ids: Vec::new(),
            mtp_tokens: Vec::new(),
            mtp_seen: 0,
            images: Vec::new(),
        };
        new.take_room(n_ctx, mtp);
        new
    }

    /// Takes room for `n_ctx` tokens, so that none of them allocates.
    pub(super) fn take_room(&mut self, n_ctx: usize, mtp: bool) {
        let room = |list: &Vec<u32>, all: usize| all.saturating_sub(list.len());
        let blocks = n_ctx.div_ceil(BLOCK);
        self.tokens.reserve_exact(room(&self.tokens, n_ctx));
        self.mtp_tokens.reserve_exact(room(&self.mtp_tokens, if mtp { n_ctx } else { 0 }));
        for kind in 0..CACHE_KINDS {
            let more = room(&self.tables[kind], blocks);
            self.tables[kind].reserve_exact(more);
            self.blocks[kind].reserve_exact(more);
        }
    }

    /// Gives back the room that its tokens do not fill.
    pub(super) fn give_room(&mut self) {
        self.tokens.shrink_to_fit();
        self.mtp_tokens.shrink_to_fit();
        self.tables.iter_mut().for_each(Vec::shrink_to_fit);
        self.blocks.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// The tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Copies what belongs to the first `n` tokens of another sequence into this one, which has none. Blocks and states
    /// are shared.
    pub(super) fn share(&mut self, other: &Self, n: usize, past: Past) {
        self.tokens.extend_from_slice(&other.tokens[..n]);
        for kind in CacheKind::ALL.map(|k| k as usize) {
            let len = n.div_ceil(BLOCK).min(other.blocks[kind].len());
            self.blocks[kind].extend_from_slice(&other.blocks[kind][..len]);
            self.tables[kind].extend_from_slice(&other.tables[kind][..len]);
        }
        self.released = other.released;
        self.images.extend(other.images.iter().filter(|(start, _)| *start < n).cloned());
        if other.seen == n {
            (self.seen, self.state) = (n, other.state.clone());
        } else if !past.recurrent {
            self.seen = other.seen.min(n);
        }
        self.saved.extend(other.saved.iter().filter(|(at, _)| *at <= n).cloned());
        self.mtp_seen = other.mtp_seen.min(n);
        self.mtp_tokens.extend_from_slice(&other.mtp_tokens[..self.mtp_seen]);
    }

    /// Forgets all tokens after the first `n`, which must be there.
    pub(super) fn truncate(&mut self, n: usize, past: Past) {
        let back = n < self.tokens.len();
        self.tokens.truncate(n);
        self.forget_images();
        for kind in CacheKind::ALL.map(|k| k as usize) {
            self.blocks[kind].truncate(n.div_ceil(BLOCK));
            self.tables[kind].truncate(n.div_ceil(BLOCK));
        }
        self.mtp_seen = self.mtp_seen.min(n);
        self.seen = self.seen.min(n);
        if back && past.recurrent {
            self.saved.retain(|(at, _)| *at <= n);
            (self.seen, self.state) = (0, None);
        }
        if past.first_block(n) < self.released {
            self.seen = 0;
        }
        self.released = self.released.min(n.div_ceil(BLOCK));
    }

    /// Forgets the images of which no token is there.
    pub(super) fn forget_images(&mut self) {
        self.images.retain(|(start, _)| *start < self.tokens.len());
    }

    /// The checkpoint after the most tokens, and how many those are.
    pub(super) fn last_saved(&self) -> Option<(usize, Held)> {
        self.saved.last().cloned()
    }

    /// The most tokens, at most `n`, from which the sequence can go on without running any of them again.
    pub(super) fn resumable(&self, n: usize, past: Past) -> usize {
        if past.first_block(n) < self.released {
            return 0;
        }
        if !past.recurrent || (self.seen == n && self.tokens.len() == n) {
            return n;
        }
        self.saved.iter().rev().map(|(at, _)| *at).find(|at| *at <= n).unwrap_or(0)
    }

    /// Keeps the present states as a checkpoint.
    pub(super) fn save(&mut self) {
        if let Some(state) = self.state.clone() {
            self.saved.retain(|(at, _)| *at < self.seen);
            if self.saved.len() >= MAX_SAVED {
                self.saved.remove(0);
            }
            self.saved.push((self.seen, state));
        }
    }

    /// Gives up the checkpoint after the fewest tokens, if there is one.
    pub(super) fn forget_saved(&mut self) -> bool {
        let any = !self.saved.is_empty();
        if any {
            self.saved.remove(0);
        }
        any
    }

    /// The states of the sequence, after how many tokens each is.
    pub(super) fn states(&self) -> Vec<(usize, &Held)> {
        let present = self.state.iter().map(|s| (self.seen, s));
        let mut all: Vec<_> = self.saved.iter().map(|(at, s)| (*at, s)).chain(present).collect();
        all.dedup_by_key(|(at, _)| *at);
        all
    }

    /// Becomes a sequence whose blocks and states were read from a snapshot.
    pub(super) fn restored(&mut self, tokens: Vec<u32>, mtp: Vec<u32>, states: Vec<(usize, Held)>, past: Past) {
        self.tokens.extend(tokens);
        self.mtp_seen = mtp.len();
        self.mtp_tokens = mtp;
        let n = self.tokens.len();
        self.state = states.last().filter(|(at, _)| *at == n).map(|(_, slot)| slot.clone());
        self.saved = states;
        let first = self.blocks[CacheKind::Window as usize].iter().position(Option::is_some);
        self.released = first.unwrap_or(0);
        let whole = past.first_block(n) >= self.released && (!past.recurrent || self.state.is_some());
        self.seen = if whole { n } else { 0 };
    }

    /// The block of an index of the table, if there is one.
    pub(super) fn block(&self, kind: CacheKind, i: usize) -> Option<&Held> {
        self.blocks[kind as usize].get(i).and_then(Option::as_ref)
    }

    /// Puts a block into the table.
    pub(super) fn set_block(&mut self, kind: CacheKind, i: usize, block: Held) {
        let (blocks, table) = (&mut self.blocks[kind as usize], &mut self.tables[kind as usize]);
        if blocks.len() <= i {
            // What a model of this kind never looks at may be missing.
            blocks.resize_with(i + 1, || None);
            table.resize(i + 1, 0);
        }
        table[i] = block.id();
        blocks[i] = Some(block);
        if kind == CacheKind::Window {
            self.released = self.released.min(i);
        }
    }

    /// Gives back the blocks behind the window of the token after the first `n`.
    pub(super) fn release(&mut self, n: usize, window: usize) {
        let kept = n.saturating_sub(window + BEHIND_WINDOW) / BLOCK;
        for block in self.blocks[CacheKind::Window as usize].iter_mut().take(kept).skip(self.released) {
            *block = None;
        }
        self.released = self.released.max(kept);
    }

    /// Gives back the last block of each kind and what does not outlive it. Returns whether there was one.
    pub(super) fn shrink(&mut self, past: Past) -> bool {
        let n = self.tokens.len();
        let to = if past.recurrent { self.saved.last().map_or(0, |s| s.0) } else { n };
        self.truncate(to.min(n.saturating_sub(1) / BLOCK * BLOCK), past);
        (self.from, self.state) = (None, None);
        self.to.clear();
        n > 0
    }

    /// How many slots a step that writes `kept` states takes.
    pub(super) fn slots_wanted(&self, kept: usize) -> usize {
        if kept == 1 && self.state.as_ref().is_some_and(|s| s.holders() == 1) { 0 } else { kept }
    }

    /// Begins a step that writes states to these slots, or, if there are none, to the slot of the present one. Until
    /// `end_states` nothing of them counts.
    pub(super) fn begin_states(&mut self, slots: &mut Vec<Held>) {
        self.seen = 0;
        self.to.clear();
        self.from = self.state.take();
        if slots.is_empty() {
            self.to.extend(self.from.clone());
        }
        self.to.append(slots);
        self.to_ids.clear();
        self.to_ids.extend(self.to.iter().map(Held::id));
    }

    /// Makes states of the step those of the sequence: those before its last `undone` tokens.
    pub(super) fn end_states(&mut self, undone: usize) {
        if !self.to.is_empty() {
            self.state = Some(self.to.swap_remove(self.to.len() - 1 - undone));
            self.from = None;
            self.to.clear();
        }
    }

    /// Tokens of this sequence in the step that was begun.
    pub(super) fn segment<'a>(&'a self, tokens: &'a [u32], pos: usize, outputs: usize) -> Segment<'a> {
        let [context, window] = &self.tables;
        // A model without windows has no blocks of that kind.
        let window = if window.is_empty() { context } else { window };
        let context = if context.is_empty() { window } else { context };
        let from = self.from.as_ref().map(Held::id);
        // Without recurrent ops, as in the block for multi-token prediction, nothing is written.
        let to: &[u32] = if self.to.is_empty() { &[0] } else { &self.to_ids };
        Segment { tokens, pos, outputs, blocks: [context, window], from, to, place: self.place(pos) }
    }
}
