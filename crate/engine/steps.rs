//! Steps: prefill, decode, rollback. Owns the backend, the pools of its cache, and the rules of positions.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cache::{Held, Pool};
use super::embeds::Embeds;
use super::idle::Idle;
use super::images::Images;
use super::queue::{Masks, Queue, Unread};
use super::sequence::{Past, Sequence};
use super::stats::{Counting, PoolUse, Stats};
use crate::backend::{Backend, CachePart, Draw, Limits, MAX_SEGMENTS, Segment, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::grammar::Vocabulary;
use crate::graph::{CacheKind, Entry, Plan, StateId};

static NEXT_ENGINE: AtomicU64 = AtomicU64::new(1);

/// A model that is ready to run sequences of tokens.
///
/// Logits that are not finite or all equal are an error of kind [`ErrorKind::DegenerateLogits`]: a kernel or a file is
/// broken.
///
/// Every method leaves the engine and all sequences usable if it fails: a sequence advances only after a step has
/// finished, and a row of the cache past its last position is written again before it is read.
pub struct Engine {
    pub(super) backend: Box<dyn Backend>,
    pub(super) limits: Limits,
    pub(super) n_vocab: usize,
    /// Columns of what a step gives back: `n_vocab` logits, or hidden states.
    pub(super) n_output: usize,
    /// Where the model was opened for embeddings: then `logits` are the last hidden states.
    pub(super) embeds: Option<Embeds>,
    /// The most tokens of a proposal.
    pub(super) drafts: usize,
    pub(super) past: Past,
    /// Whether there is a block for multi-token prediction.
    pub(super) mtp: bool,
    /// Columns of its logits.
    pub(super) mtp_vocab: usize,
    /// Of the header of the model's file.
    pub(super) fingerprint: u64,
    /// The kinds of which there are states.
    pub(super) kinds: Vec<CacheKind>,
    pub(super) blocks: [Pool; CacheKind::ALL.len()],
    pub(super) slots: Pool,
    /// Slots that a step takes: kept, so that steps do not allocate.
    pub(super) taken: Vec<Held>,
    /// Columns of the rows of images; 0 where it takes none.
    pub(super) given_columns: usize,
    pub(super) images: Images,
    /// Whether the rows of an image see those after them: then a step does not end inside of one.
    pub(super) whole_images: bool,
    /// Sequences that nobody runs now, for what new ones share with them.
    pub(super) idle: Idle,
    /// No other engine has it.
    pub(super) id: u64,
    next_id: u64,
    /// `[max_outputs, n_output]`.
    pub(super) logits: Vec<f32>,
    /// The tokens of the last step's rows, if the backend chose them.
    pub(super) drawn: Vec<Result<u32>>,
    /// Masks as they are written: kept, so that steps do not allocate.
    pub(super) mask_words: Vec<u32>,
    /// Tokens that must never be generated.
    pub(super) suppressed: Vec<u32>,
    /// Once a grammar was asked for.
    pub(super) vocabulary: Option<Vocabulary>,
    /// Logits of a step that was submitted but not read: a caller dropped its future.
    pub(super) unread: Option<Unread>,
    /// A part of the cache, likewise.
    pub(super) unread_part: Option<CachePart>,
    /// Whether long steps run in parts, and with how much work; without a number, as much as the backend thinks right.
    pub(super) slices: Option<Option<u64>>,
    pub(super) queue: Queue,
    pub(super) counting: Counting,
}

/// What one sequence runs in a step.
pub struct Row<'a> {
    /// The sequence; it gets the tokens if the step succeeds.
    pub sequence: &'a mut Sequence,
    /// At least one.
    pub tokens: &'a [u32],
    /// Rows of logits: those after the last so many tokens.
    pub outputs: usize,
}

impl Engine {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        plan: &Plan,
        limits: Limits,
        embeds: Option<Embeds>,
        drafts: usize,
        fingerprint: u64,
    ) -> Self {
        let g = &plan.graph;
        let by_position = (0..).zip(&g.states).filter(|(_, s)| !s.rows.is_recurrent());
        let used: Vec<_> = by_position.map(|(i, _)| g.cache_kind(StateId(i))).collect();
        Self {
            backend,
            limits,
            n_vocab: g.n_vocab(),
            n_output: g.columns(Entry::Trunk),
            embeds,
            drafts: drafts.min(limits.max_outputs - 1),
            past: Past { recurrent: g.states.iter().any(|s| s.rows.is_recurrent()), window: g.window() },
            mtp: g.mtp.is_some(),
            mtp_vocab: g.columns(Entry::Mtp),
            fingerprint,
            kinds: CacheKind::ALL.into_iter().filter(|k| used.contains(k)).collect(),
            blocks: limits.blocks.map(Pool::new),
            slots: Pool::new(limits.slots),
            taken: Vec::new(),
            given_columns: if g.given.is_some() { g.given_columns() } else { 0 },
            images: Images::default(),
            whole_images: !g.is_causal(Entry::Given),
            idle: Idle::default(),
            id: NEXT_ENGINE.fetch_add(1, Ordering::Relaxed),
            next_id: 0,
            logits: vec![0.0; limits.max_outputs * g.columns(Entry::Trunk)],
            suppressed: plan.suppressed.clone(),
            vocabulary: None,
            drawn: Vec::new(),
            mask_words: Vec::new(),
            unread: None,
            unread_part: None,
            slices: None,
            queue: Queue::new(limits),
            counting: Counting::new(plan),
        }
    }

    /// Runs steps of several tokens in parts from now on, where the caller's thread does the work: futures of the engine are not
    /// done in between, and one that is dropped there gives its step up. A part takes about a twentieth of a second, or has so
    /// many multiply-adds.
    pub fn run_in_slices(&mut self, work: Option<u64>) {
        self.slices = Some(work);
    }

    /// The backend that the engine owns.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// The sizes that the backend was prepared for.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How many tokens there are: columns of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Whether the model was opened with a block for multi-token prediction.
    pub fn has_mtp(&self) -> bool {
        self.mtp
    }

    /// Whether the model has states that cannot go back by themselves.
    pub fn is_recurrent(&self) -> bool {
        self.past.recurrent
    }

    /// Blocks and slots that sequences hold, idle ones too.
    pub fn held(&self) -> ([usize; CacheKind::ALL.len()], usize) {
        ([self.blocks[0].held(), self.blocks[1].held()], self.slots.held())
    }

    /// What the engine holds and has done.
    pub fn stats(&self) -> Stats {
        let [context, window] = CacheKind::ALL.map(|kind| {
            let pool = &self.blocks[kind as usize];
            if self.has(kind) { PoolUse::of(pool) } else { PoolUse::default() }
        });
        Stats {
            context_blocks: context,
            window_blocks: window,
            slots: if self.past.recurrent { PoolUse::of(&self.slots) } else { PoolUse::default() },
            idle_sequences: self.idle.len(),
            cached_positions: self.idle.positions(),
            done: self.counting.done,
        }
    }

    /// Whether there are states of a kind.
    pub(super) fn has(&self, kind: CacheKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// A sequence without tokens.
    pub fn sequence(&mut self) -> Sequence {
        self.next_id += 1;
        Sequence::new((self.id, self.next_id), self.limits.n_ctx, self.mtp)
    }

    /// A sequence that starts with the first `n` tokens of another one. It shares their part of the cache until either
    /// of them writes to it.
    pub fn fork(&mut self, sequence: &Sequence, n: usize) -> Result<Sequence> {
        self.owns(sequence)?;
        let have = sequence.tokens.len();
        if n > have {
            crate::bail!(InvalidArgument, "cannot fork after {n} tokens: the sequence has {have}");
        }
        let mut new = self.sequence();
        new.share(sequence, n, self.past);
        new.truncate(n, self.past);
        Ok(new)
    }

    /// Leaves a sequence idle: others may share its part of the cache as long as there is room for it.
    pub fn leave(&mut self, sequence: Sequence) {
        if self.owns(&sequence).is_ok() {
            self.abandon_of(&sequence);
            self.idle.keep(sequence);
        }
    }

    /// A sequence with as many of the first tokens of a prompt as an idle sequence has, but not its last token, which must
    /// run for its logits.
    pub fn resume(&mut self, prompt: &[u32]) -> Result<Sequence> {
        self.check(0, prompt)?;
        let Some((i, n)) = self.idle.best(prompt, self.past) else { return Ok(self.sequence()) };
        let mut found = self.idle.take(i);
        if found.tokens().len() == n {
            found.take_room(self.limits.n_ctx, self.mtp);
            return Ok(found);
        }
        let fork = self.fork(&found, n);
        self.idle.keep(found);
        fork
    }

    /// Forgets all idle sequences.
    pub fn forget_idle(&mut self) {
        self.idle.clear();
    }

    /// Forgets all tokens of a sequence after the first `n`.
    pub fn rollback(&mut self, sequence: &mut Sequence, n: usize) -> Result<()> {
        self.owns(sequence)?;
        let have = sequence.tokens.len();
        if n > have {
            crate::bail!(InvalidArgument, "cannot roll back to {n} tokens: the cache holds {have}");
        }
        self.abandon_of(sequence);
        sequence.truncate(n, self.past);
        Ok(())
    }

    /// Makes it cheap to go back to the present position of a sequence. Only models with recurrent states need it: without
    /// a checkpoint they run all tokens again.
    pub fn checkpoint(&mut self, sequence: &mut Sequence) {
        if self.past.recurrent && sequence.seen == sequence.tokens.len() {
            sequence.save();
        }
    }

    /// Runs one step: tokens of several sequences, each of which gets its own. Returns the rows of logits, those of the
    /// first sequence first. Nothing changes if it fails, except that a recurrent state may have to be made again, and that images
    /// and the text before them, which run in steps of their own, may have run.
    pub async fn run(&mut self, rows: &mut [Row<'_>]) -> Result<&mut [f32]> {
        let outputs = rows.iter().map(|r| r.outputs).sum::<usize>();
        self.run_rows(rows, &[], &mut |_, _| Ok(())).await?;
        Ok(&mut self.logits[..outputs * self.n_output])
    }

    /// The same; with draws it gives their tokens instead.
    pub(super) async fn run_rows(&mut self, rows: &mut [Row<'_>], draws: &[Draw], masks: Masks<'_>) -> Result<()> {
        let (tokens, outputs) = rows.iter().fold((0, 0), |(t, o), r| (t + r.tokens.len(), o + r.outputs));
        let Limits { max_tokens, max_outputs, .. } = self.limits;
        if rows.len() > MAX_SEGMENTS || tokens > max_tokens || outputs > max_outputs {
            crate::bail!(
                InvalidArgument,
                "a step has at most {MAX_SEGMENTS} sequences, {max_tokens} tokens and {max_outputs} rows of logits; this \
                 one has {}, {tokens} and {outputs}",
                rows.len()
            );
        }
        for r in rows.iter_mut() {
            self.check(r.sequence.tokens.len(), r.tokens)?;
            if r.outputs > r.tokens.len() {
                crate::bail!(InvalidArgument, "{} rows of logits of {} tokens", r.outputs, r.tokens.len());
            }
        }
        for r in rows.iter_mut() {
            self.run_images(r).await?;
        }
        // What is left is text.
        let left = |r: &&mut Row<'_>| !r.tokens.is_empty();
        for r in rows.iter_mut().filter(left) {
            self.ready(r.sequence, r.tokens.len()).await?;
        }
        self.abandon();
        self.drain().await?;
        for r in rows.iter_mut().filter(left) {
            self.begin_states(r.sequence, 1)?;
        }
        let mut segments = [Segment::alone(&[], 0, 0); MAX_SEGMENTS];
        let mut n = 0;
        for r in rows.iter().filter(|r| !r.tokens.is_empty()) {
            segments[n] = r.sequence.segment(r.tokens, r.sequence.tokens.len(), r.outputs);
            n += 1;
        }
        if n == 0 {
            return Ok(());
        }
        self.submit_and_choose(&Step::trunk(&segments[..n]), draws, masks).await?;
        for r in rows.iter_mut().filter(left) {
            r.sequence.end_states(0);
            r.sequence.tokens.extend_from_slice(r.tokens);
            self.settle(r.sequence);
        }
        Ok(())
    }

    /// Checks tokens at position `have` and on for everything that can be wrong, before anything runs.
    pub(super) fn check(&self, have: usize, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            crate::bail!(EmptyPrompt, "there are no tokens to run; give at least one");
        }
        let outside = |id: u32| id as usize >= self.n_vocab;
        if let Some((i, id)) = ids.iter().enumerate().find(|(_, id)| outside(**id) && !self.is_of_image(**id)) {
            return Err(Error::new(ErrorKind::TokenOutOfRange, format!("the vocabulary has {} tokens", self.n_vocab))
                .at(format!("token {id} at index {i}")));
        }
        if ids.iter().any(|id| outside(*id)) {
            self.check_images(ids)?;
        }
        self.check_room(have, ids.len())
    }

    /// Refuses more tokens than the context has room for after so many.
    pub fn check_room(&self, have: usize, new: usize) -> Result<()> {
        let n_ctx = self.limits.n_ctx;
        if new > n_ctx.saturating_sub(have) {
            crate::bail!(
                ContextOverflow,
                "{have} tokens and {new} new ones do not fit in a context of {n_ctx}; shorten the prompt or open the model with a larger context"
            );
        }
        Ok(())
    }

    /// Brings the states of a sequence to its last position, and makes room for `n` more tokens.
    pub(super) async fn ready(&mut self, sequence: &mut Sequence, n: usize) -> Result<()> {
        self.owns(sequence)?;
        // Those of a step that was dropped.
        sequence.forget_images();
        let end = sequence.tokens.len();
        // Without tokens too: the states may be those of a first step that was dropped.
        if sequence.seen < end || end == 0 {
            self.replay(sequence).await?;
        }
        self.make_room(sequence, end, end + n, true)
    }

    /// Runs tokens of a sequence again whose states are lost: from the last checkpoint, or from the start.
    async fn replay(&mut self, sequence: &mut Sequence) -> Result<()> {
        let (mut at, state) = sequence.last_saved().map_or((0, None), |(at, state)| (at, Some(state)));
        sequence.state = state;
        self.abandon();
        self.drain().await?;
        // A dropped future must not lose them.
        let tokens = sequence.tokens.clone();
        while at < tokens.len() {
            let end = sequence.stretch_end(at, tokens.len().min(at + self.limits.max_tokens));
            // Rows that the sequence has no more are there for others of the image to see.
            let whole = if self.whole_images { sequence.rest_of_image(at) } else { None };
            self.replay_part(sequence, whole.as_deref().unwrap_or(&tokens[at..end]), at).await?;
            at = end;
        }
        sequence.seen = tokens.len();
        Ok(())
    }

    /// Rows that are there already get the same values again, so those that others share stay shared.
    async fn replay_part(&mut self, sequence: &mut Sequence, tokens: &[u32], at: usize) -> Result<()> {
        self.make_room(sequence, at, at + tokens.len(), false)?;
        self.begin_states(sequence, 1)?;
        let (entry, given) = sequence.given(at, tokens.len());
        self.submit_and_read(&Step { segments: &[sequence.segment(tokens, at, 0)], entry, given }).await?;
        sequence.end_states(0);
        self.release(sequence, at + tokens.len());
        Ok(())
    }

    /// Records that the states of a sequence have seen all its tokens.
    pub(super) fn settle(&mut self, sequence: &mut Sequence) {
        sequence.seen = sequence.tokens.len();
        self.release(sequence, sequence.seen);
    }
}
