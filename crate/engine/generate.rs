//! The generation loop as a state machine: one step of the backend per call, so that a host can stop in between.

mod proposals;
mod replay;

use serde::Deserialize;

use super::budget::ReasoningBudget;
use super::chooser::{Chooser, Chosen};
use super::events::{Event, StopReason, Usage};
use super::idle::common;
use super::images::Image;
use super::speculate::{Draft, SpeculateParams, Speculation};
use super::stats::Speculated;
use super::{Engine, Sampler, SamplerParams, Sequence, Session};
use crate::backend::MAX_SEGMENTS;
use crate::error::{ErrorKind, Result};
use crate::grammar::GrammarSource;
use crate::text::{StopStrings, TextStream, Tokenizer};

/// The options of a generation.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GenerateParams {
    /// The most tokens to generate; `None` is as many as the context holds.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampler: SamplerParams,
    /// Strings that end the text; they are not part of it. One that names a control token ends at that token.
    pub stop: Vec<String>,
    /// Control tokens that come as text, by their names, as the markers of
    /// [`ReplyFormat`](crate::text::ReplyFormat::markers) do; others are hidden. Names of no token are left out.
    pub show: Vec<String>,
    /// Continue after a token that ends a sequence.
    pub ignore_eos: bool,
    /// Speculative decoding: how tokens come faster, not which come. In a [`Batch`](super::Batch) while it runs alone.
    pub speculate: Option<SpeculateParams>,
    /// Reports how likely each token was, and which ones were the likeliest: so many, at most
    /// [`MAX_LOGPROBS`](crate::backend::MAX_LOGPROBS).
    pub logprobs: Option<usize>,
    /// What the answer must be. It ends where the grammar does; one that is cut by `max_tokens`, a stop string or the end of
    /// the context is only the start of such an answer.
    pub grammar: Option<GrammarSource>,
    /// How long the answer may reason.
    pub reasoning: Option<ReasoningBudget>,
}

/// A prompt and its continuation.
///
/// To cancel, drop it or a future of [`Generation::next`]: the session stays usable and the next prompt that starts
/// alike reuses its cache. After a dropped future `next` continues where it was.
pub struct Generation {
    /// The prompt, then what was generated.
    tokens: Vec<u32>,
    prompt_len: usize,
    /// How many of the tokens are in the cache.
    run: usize,
    max_tokens: usize,
    ignore_eos: bool,
    pub(super) chooser: Chooser,
    text: TextStream,
    /// Control tokens that are text.
    shown: Vec<u32>,
    /// Tokens that were chosen but not yet reported, the first one last.
    chosen: Vec<Chosen>,
    /// How many tokens it has taken over from an earlier engine.
    replayed: usize,
    speculation: Option<Speculation>,
    /// Those of the prompt: the engine knows them as long as somebody keeps them.
    _images: Vec<Image>,
    over: bool,
    /// How many there were at the start.
    cached: Option<usize>,
    /// Whether that was noted.
    noted: bool,
    started_ms: f64,
    first_ms: f64,
    last_ms: f64,
}

impl Generation {
    /// Checks everything, then rolls the session back to the common prefix with the prompt. Runs nothing.
    pub fn new(
        session: &mut Session,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        params: GenerateParams,
        now_ms: f64,
    ) -> Result<Self> {
        Self::with_draft(session, tokenizer, prompt, params, None, now_ms)
    }

    /// The same with a draft model, if the parameters ask for one.
    pub fn with_draft(
        session: &mut Session,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        params: GenerateParams,
        draft: Option<Draft>,
        now_ms: f64,
    ) -> Result<Self> {
        let mut generation = Self::of(session.engine(), tokenizer, prompt, params, draft, now_ms)?;
        generation.goes_on_from(session.reuse(prompt)?);
        Ok(generation)
    }

    /// Checks everything, and prepares the backend to sample. Nothing of the prompt is in a cache yet.
    pub(super) fn of(
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        params: GenerateParams,
        draft: Option<Draft>,
        now_ms: f64,
    ) -> Result<Self> {
        let n_ctx = engine.limits().n_ctx;
        engine.check(0, prompt)?;
        let sampler = Sampler::new(params.sampler)?.with_logprobs(params.logprobs)?;
        let text = TextStream::new(StopStrings::with_control(&params.stop, tokenizer)?);
        let speculation = params.speculate.map(|p| Speculation::new(p, draft, engine)).transpose()?;
        engine.prepare_sampling(&sampler)?;
        if params.grammar.is_some() && params.ignore_eos {
            crate::bail!(InvalidArgument, "`ignore_eos` goes on where the grammar ends; leave one of them out");
        }
        let mut tokens = Vec::with_capacity(n_ctx + 1);
        tokens.extend_from_slice(prompt);
        Ok(Self {
            tokens,
            prompt_len: prompt.len(),
            run: 0,
            max_tokens: params.max_tokens.unwrap_or(usize::MAX),
            ignore_eos: params.ignore_eos,
            chooser: Chooser::new(engine, tokenizer, sampler, params.grammar, params.reasoning)?,
            text,
            shown: params.show.iter().filter_map(|name| tokenizer.marker(name)).collect(),
            chosen: Vec::with_capacity(MAX_SEGMENTS),
            replayed: 0,
            speculation,
            _images: engine.images_in(prompt)?,
            over: false,
            cached: None,
            noted: false,
            started_ms: now_ms,
            first_ms: now_ms,
            last_ms: now_ms,
        })
    }

    /// The first `cached` tokens are in the cache.
    pub(super) fn goes_on_from(&mut self, cached: usize) {
        self.run = cached;
        self.cached.get_or_insert(cached);
    }

    /// The prompt and what was generated.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of the first tokens of another prompt can be shared once this one was read.
    pub(super) fn will_share(&self, prompt: &[u32], recurrent: bool) -> usize {
        let (n, checkpoint) = (common(&self.tokens, prompt), self.prompt_len - 1);
        if !recurrent {
            n
        } else if n >= checkpoint {
            checkpoint
        } else {
            0
        }
    }

    /// The draft model, which another generation can use then.
    pub fn take_draft(&mut self) -> Option<Draft> {
        self.speculation.take().and_then(Speculation::into_draft)
    }

    /// The tokens generated so far.
    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt_len..]
    }

    /// Runs at most one part of the prompt, or returns one token. Returns `None` after `Done` and after an error, but goes
    /// on after [`ErrorKind::CacheFull`].
    ///
    /// `now` returns milliseconds from any fixed point: the engine has no clock.
    pub async fn next(
        &mut self,
        session: &mut Session,
        tokenizer: &Tokenizer,
        now: &dyn Fn() -> f64,
    ) -> Result<Option<Event>> {
        let (engine, sequence) = session.parts();
        self.next_of(engine, sequence, tokenizer, now).await
    }

    /// The same with a sequence that the caller has.
    pub(super) async fn next_of(
        &mut self,
        engine: &mut Engine,
        sequence: &mut Sequence,
        tokenizer: &Tokenizer,
        now: &dyn Fn() -> f64,
    ) -> Result<Option<Event>> {
        if self.over {
            return Ok(None);
        }
        let event = self.advance(engine, sequence, tokenizer, now).await;
        self.over = match &event {
            Ok(event) => matches!(event, Event::Done { .. }),
            Err(e) => e.kind() != ErrorKind::CacheFull,
        };
        event.map(Some)
    }

    async fn advance(
        &mut self,
        engine: &mut Engine,
        sequence: &mut Sequence,
        tokenizer: &Tokenizer,
        now: &dyn Fn() -> f64,
    ) -> Result<Event> {
        if let Some(event) = self.without_a_step(engine.limits().n_ctx, tokenizer) {
            return Ok(event);
        }
        self.step(engine, sequence, now).await?;
        Ok(self.after_a_step(tokenizer))
    }

    /// The next event, if it needs no step.
    pub(super) fn without_a_step(&mut self, n_ctx: usize, tokenizer: &Tokenizer) -> Option<Event> {
        if self.text.stopped_by().is_none()
            && let Some(chosen) = self.chosen.pop()
        {
            return Some(self.report(chosen, tokenizer));
        }
        let reason = self.reason_to_stop(n_ctx).filter(|_| self.run >= self.prompt_len || self.replayed > 0)?;
        Some(self.done(reason))
    }

    /// What a step brought.
    pub(super) fn after_a_step(&mut self, tokenizer: &Tokenizer) -> Event {
        match if self.run > self.prompt_len { self.chosen.pop() } else { None } {
            Some(chosen) => self.report(chosen, tokenizer),
            // Of an answer that lost its place in the cache, tokens run again too.
            None => Event::Prefill { done: self.run.min(self.prompt_len), total: self.prompt_len },
        }
    }

    /// The tokens that run next, at most `most`, and whether a token is chosen after them. None where an image needs more.
    /// Those of the answer that run again are no more at once than can be verified: then they leave the cache as it was, also
    /// where prompts run in other kernels.
    pub(super) fn part(&self, engine: &Engine, most: usize) -> (&[u32], bool) {
        let last = if self.run >= self.prompt_len { self.run + MAX_SEGMENTS } else { self.prompt_len };
        let left = self.tokens.len().min(last) - self.run;
        let mut end = self.run + engine.cut(&self.tokens[self.run..], most.min(left));
        // The same prompt again, or a longer one, goes back at most to before its last token.
        end -= usize::from(engine.is_recurrent() && end == self.prompt_len && end - self.run > 1);
        (&self.tokens[self.run..end], end == self.tokens.len() && self.max_tokens > 0)
    }

    /// So many tokens that run next, and who chooses the one after them.
    pub(super) fn next_part(&mut self, n: usize) -> (&[u32], &mut Chooser) {
        (&self.tokens[self.run..][..n], &mut self.chooser)
    }

    /// Counts what of a part with images has run, though a later step of it failed or was dropped. Returns whether nothing else
    /// used the sequence.
    pub(super) fn catches_up(&mut self, sequence: &Sequence) -> bool {
        let have = sequence.tokens().len();
        if have > self.run && self.tokens.starts_with(sequence.tokens()) {
            self.run = have;
        }
        have == self.run
    }

    /// Whether more than one token runs before the next is chosen.
    pub(super) fn reads(&self) -> bool {
        self.run + 1 < self.tokens.len()
    }

    /// Records that the first tokens up to `end` have run, and which token was chosen after them, if one was.
    pub(super) fn ran(
        &mut self,
        engine: &mut Engine,
        sequence: &mut Sequence,
        end: usize,
        chosen: Option<u32>,
        now: &dyn Fn() -> f64,
    ) {
        self.run = end;
        if end + 1 == self.prompt_len {
            engine.checkpoint(sequence);
        }
        let Some(id) = chosen else { return };
        self.chosen.push(Chosen { id, logprobs: self.chooser.logprobs().cloned() });
        self.take_forced(engine.limits().n_ctx);
        self.last_ms = now();
        if self.generated().len() == self.replayed {
            self.first_ms = self.last_ms;
        }
    }

    /// Takes the tokens that need no logits, as far as there is room for them, and turns what was chosen around.
    fn take_forced(&mut self, n_ctx: usize) {
        let most = (self.max_tokens - self.generated().len()).min(n_ctx + 1 - self.tokens.len());
        while self.chosen.len() < most
            && let Some(id) = self.chooser.next_forced()
        {
            self.chosen.push(Chosen { id, logprobs: None });
        }
        self.chosen.reverse();
    }

    /// Chooses the token after row `i` of the last step.
    pub(super) fn choose(&mut self, engine: &mut Engine, i: usize) -> Result<u32> {
        engine.choose_row(i, &mut self.chooser, &self.tokens)
    }

    /// Runs the next tokens that are not in the cache, and chooses a token after the last of them.
    async fn step(&mut self, engine: &mut Engine, sequence: &mut Sequence, now: &dyn Fn() -> f64) -> Result<()> {
        if !self.catches_up(sequence) {
            let have = sequence.tokens().len();
            crate::bail!(InvalidState, "the cache holds {have} tokens, not {}: something else used it", self.run);
        }
        if self.speculation.is_some() && self.run >= self.prompt_len && !self.reads() {
            return self.speculate(engine, sequence, now).await;
        }
        let (part, chooses) = self.part(engine, engine.limits().max_tokens);
        let end = self.run + part.len();
        let chosen = if chooses {
            let wanted = self.max_tokens - self.generated().len();
            Some(engine.choose_next(sequence, &self.tokens, &mut self.chooser, wanted, now).await?)
        } else {
            engine.prefill_part(sequence, part).await?;
            None
        };
        self.ran(engine, sequence, end, chosen, now);
        Ok(())
    }

    fn report(&mut self, Chosen { id, logprobs }: Chosen, tokenizer: &Tokenizer) -> Event {
        if !self.ignore_eos && tokenizer.is_end_of_generation(id) {
            return self.done(StopReason::EndOfSequence);
        }
        self.tokens.push(id);
        let text = match tokenizer.is_control(id) && !self.shown.contains(&id) {
            true => self.text.push_control(id),
            false => self.text.push(tokenizer.piece(id, true).unwrap_or_default()),
        };
        Event::Token { id, text, logprobs }
    }

    fn reason_to_stop(&self, n_ctx: usize) -> Option<StopReason> {
        if self.text.stopped_by().is_some() {
            Some(StopReason::StopString)
        } else if self.chooser.is_over() {
            Some(StopReason::EndOfSequence)
        } else if self.generated().len() >= self.max_tokens {
            Some(StopReason::MaxTokens)
        } else if self.tokens.len() > n_ctx {
            Some(StopReason::ContextFull)
        } else {
            None
        }
    }

    fn done(&mut self, reason: StopReason) -> Event {
        Event::Done { text: self.text.finish(), reason, usage: self.usage() }
    }

    /// Counts and times so far.
    pub fn usage(&self) -> Usage {
        let rate = |n: usize, ms: f64| if n > 0 && ms > 0.0 { n as f64 * 1000.0 / ms } else { 0.0 };
        let to_first = self.first_ms - self.started_ms;
        let (cached, completion) = (self.cached.unwrap_or(0), self.generated().len());
        Usage {
            prompt_tokens: self.prompt_len,
            cached_tokens: cached,
            completion_tokens: completion,
            time_to_first_token_ms: to_first,
            prefill_tokens_per_s: rate(self.prompt_len - cached, to_first),
            decode_tokens_per_s: rate(completion.saturating_sub(1 + self.replayed), self.last_ms - self.first_ms),
            speculated: self.speculation.as_ref().map_or_else(Speculated::default, |s| s.done),
        }
    }
}
