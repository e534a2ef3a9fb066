//! Several generations at once, in steps that they share.

use std::collections::BTreeMap;

use super::events::{Event, Mark};
use super::generate::{GenerateParams, Generation};
use super::idle::saves;
use super::{Engine, Row, Sequence};
use crate::backend::MAX_SEGMENTS;
use crate::error::{ErrorKind, Result};
use crate::text::Tokenizer;

/// Generations that run side by side on one engine. Each step takes a token of each that is past its prompt, and fills up
/// with parts of the prompts of others. So weights are read once for all of them.
///
/// A generation that runs alone has steps in flight ahead of its token, where the backend samples, and speculates if it
/// was asked to.
///
/// One whose prompt starts like that of another one goes on from what that has in the cache, and waits for it where that
/// saves most of what it has to read. When the cache is full, the newest gives its place up, and reads its tokens again once
/// another one has ended.
///
/// Each gives the tokens that it would give alone, where the backend computes a row alike in every step, as the CPU does.
/// Results of GPU kernels for other numbers of rows may differ in the last bits.
pub struct Batch {
    /// In the order in which they came.
    lanes: Vec<Lane>,
    next_id: u64,
    /// Whose turn it is first when prompts share what is left of a step.
    turn: usize,
    /// The most that run at once.
    most: usize,
    /// The cache is full: nobody starts until another one has ended.
    full: bool,
}

struct Lane {
    id: u64,
    generation: Generation,
    /// None while it waits for its turn.
    sequence: Option<Sequence>,
    /// A part of its prompt that others outside of the batch had in the cache.
    beside: Option<Sequence>,
    paused: bool,
}

impl Lane {
    fn runs(&self) -> bool {
        self.sequence.is_some() && !self.paused
    }
}

type Events = Vec<(u64, Result<Event>)>;

impl Default for Batch {
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl Batch {
    /// Without generations. At most `most` of those that are added run at once, the others wait for their turn.
    pub fn new(most: usize) -> Self {
        Self { lanes: Vec::new(), next_id: 0, turn: 0, most, full: false }
    }

    /// Generations that are not over.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Adds a generation and returns its number. Checks everything, and runs nothing.
    pub fn add(
        &mut self,
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        params: GenerateParams,
        now_ms: f64,
    ) -> Result<u64> {
        self.add_beside([].into_iter(), engine, tokenizer, prompt, params, now_ms)
    }

    /// The same, and the generation may also go on from what sequences outside of the batch have in the cache.
    pub fn add_beside<'a>(
        &mut self,
        others: impl Iterator<Item = &'a Sequence>,
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        params: GenerateParams,
        now_ms: f64,
    ) -> Result<u64> {
        let generation = Generation::of(engine, tokenizer, prompt, params, None, now_ms)?;
        let best = others.map(|s| (s, saves(s, prompt, engine.past))).max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0);
        let beside = best.map(|(s, n)| engine.fork(s, n)).transpose()?;
        self.next_id += 1;
        self.lanes.push(Lane { id: self.next_id, generation, sequence: None, beside, paused: false });
        Ok(self.next_id)
    }

    /// Makes a generation that was just added repeat what another one did, on an engine that is gone: in the order in which
    /// it was done. It then goes on as that one would have. Returns the event that it was.
    ///
    /// Its tokens must be those of the same model, prompt and parameters: others are refused, as far as that can be seen.
    pub fn replay(&mut self, engine: &mut Engine, tokenizer: &Tokenizer, id: u64, mark: Mark) -> Result<Option<Event>> {
        let Some(lane) = self.lanes.iter_mut().find(|l| l.id == id) else {
            crate::bail!(InvalidArgument, "there is no generation {id}, or it is over");
        };
        let event = lane.generation.replay(engine.limits().n_ctx, tokenizer, mark)?;
        if let Some(Event::Done { .. }) = event {
            self.stop(engine, id);
        }
        Ok(event)
    }

    /// How many tokens of the prompt of a generation were in the cache: once, after it has started.
    pub fn note_cached(&mut self, id: u64) -> Option<usize> {
        self.lanes.iter_mut().find(|l| l.id == id)?.generation.note_cached()
    }

    /// Ends a generation, if it still runs. What it has in the cache is left to others.
    pub fn stop(&mut self, engine: &mut Engine, id: u64) {
        if let Some(i) = self.lanes.iter().position(|l| l.id == id) {
            self.full = false;
            if let Some(sequence) = self.lanes.remove(i).sequence {
                engine.leave(sequence);
            }
        }
    }

    /// Ends all generations and returns their numbers.
    pub fn clear(&mut self, engine: &mut Engine) -> Vec<u64> {
        let ids: Vec<_> = self.lanes.iter().map(|l| l.id).collect();
        ids.iter().for_each(|id| self.stop(engine, *id));
        ids
    }

    /// Leaves all generations out of the next steps for which `paused` holds: nobody takes their tokens now.
    pub fn pause(&mut self, paused: impl Fn(u64) -> bool) {
        self.lanes.iter_mut().for_each(|l| l.paused = paused(l.id));
    }

    /// Runs at most one step and returns what it brought to which generation: nothing once all are over or paused. A
    /// generation that has failed or is done is not in the batch any more.
    ///
    /// The error is one of the step: then nothing happened to any of them.
    pub async fn next(&mut self, engine: &mut Engine, tokenizer: &Tokenizer, now: &dyn Fn() -> f64) -> Result<Events> {
        let events = loop {
            self.start(engine)?;
            let events = self.advance(engine, tokenizer, now).await?;
            let full = |e: &Result<Event>| e.as_ref().is_err_and(|e| e.kind() == ErrorKind::CacheFull);
            if !(events.iter().any(|(_, e)| full(e)) && self.make_way(engine)) {
                break events;
            }
        };
        for (id, event) in &events {
            if !matches!(event, Ok(Event::Prefill { .. } | Event::Token { .. })) {
                self.stop(engine, *id);
            }
        }
        Ok(events)
    }

    /// Gives those that wait their sequences, as far as there is a turn for them.
    fn start(&mut self, engine: &mut Engine) -> Result<()> {
        for i in 0..self.lanes.len() {
            if self.full || self.started().count() >= self.most {
                break;
            }
            if self.lanes[i].sequence.is_none()
                && let Some(sequence) = self.sequence(engine, &self.lanes[i])?
            {
                let lane = &mut self.lanes[i];
                lane.generation.goes_on_from(sequence.tokens().len());
                (lane.sequence, lane.beside) = (Some(sequence), None);
            }
        }
        Ok(())
    }

    fn started(&self) -> impl Iterator<Item = (&Lane, &Sequence)> {
        self.lanes.iter().filter_map(|l| Some((l, l.sequence.as_ref()?)))
    }

    /// A sequence that starts with as much of a prompt as any has, idle or running; none if one that is being read will soon
    /// have much more.
    fn sequence(&self, engine: &mut Engine, lane: &Lane) -> Result<Option<Sequence>> {
        let (prompt, recurrent) = (lane.generation.tokens(), engine.is_recurrent());
        let idle = engine.idle.best(prompt, engine.past).map_or(0, |(_, n)| n);
        let others = self.started().map(|(_, s)| s).chain(&lane.beside);
        let best =
            others.map(|s| (s, saves(s, prompt, engine.past))).max_by_key(|(_, n)| *n).filter(|(_, n)| *n > idle);
        let now = best.map_or(idle, |(_, n)| n);
        let reading = self.started().filter(|(l, _)| l.runs() && l.generation.reads());
        let soon = reading.map(|(l, _)| l.generation.will_share(prompt, recurrent)).max().unwrap_or(0);
        if 2 * soon.saturating_sub(now) > prompt.len() - now {
            return Ok(None);
        }
        match best {
            Some((s, n)) => engine.fork(s, n),
            None => engine.resume(prompt),
        }
        .map(Some)
    }

    /// Makes one that is paused, or else the newest, give up its place in the cache, if it is not the only one.
    fn make_way(&mut self, engine: &mut Engine) -> bool {
        if self.started().count() < 2 {
            return false;
        }
        let started = |paused: bool| self.lanes.iter().rposition(|l| l.sequence.is_some() && (l.paused || !paused));
        let i = started(true).or_else(|| started(false));
        if let Some(sequence) = i.and_then(|i| self.lanes[i].sequence.take()) {
            engine.leave(sequence);
        }
        self.full = true;
        true
    }

    async fn advance(&mut self, engine: &mut Engine, tokenizer: &Tokenizer, now: &dyn Fn() -> f64) -> Result<Events> {
        let n_ctx = engine.limits().n_ctx;
        let ready = |l: &mut Lane| l.generation.without_a_step(n_ctx, tokenizer).map(|e| (l.id, Ok(e)));
        let events: Vec<_> = self.lanes.iter_mut().filter(|l| l.runs()).filter_map(ready).collect();
        if !events.is_empty() {
            return Ok(events);
        }
        let mut running = self.lanes.iter_mut().filter(|l| l.runs());
        let (first, second) = (running.next(), running.next());
        match (first, second) {
            (None, _) => Ok(events),
            (Some(Lane { id, generation, sequence: Some(sequence), .. }), None) => {
                let event = generation.next_of(engine, sequence, tokenizer, now).await.transpose();
                Ok(event.map(|e| (*id, e)).into_iter().collect())
            }
            _ => self.step(engine, tokenizer, now).await,
        }
    }

    async fn step(&mut self, engine: &mut Engine, tokenizer: &Tokenizer, now: &dyn Fn() -> f64) -> Result<Events> {
        for Lane { generation, sequence, .. } in &mut self.lanes {
            sequence.iter().for_each(|s| _ = generation.catches_up(s));
        }
        let mut parts = self.parts(engine);
        // Who finds no room waits until others end.
        let mut refused = None;
        for i in (0..parts.len()).rev() {
            let (lane, len, _) = parts[i];
            let Lane { id, sequence: Some(sequence), .. } = &mut self.lanes[lane] else { continue };
            if let Err(e) = engine.ready(sequence, len).await {
                if e.kind() != ErrorKind::CacheFull {
                    return Ok(vec![(*id, Err(e))]);
                }
                parts.remove(i);
                refused = refused.or(Some((lane, e)));
            }
        }
        if let (true, Some((lane, e))) = (parts.is_empty(), refused) {
            return Ok(vec![(self.lanes[lane].id, Err(e))]);
        }
        match self.run(engine, &parts).await {
            // There are more generations than recurrent states.
            Err(e) if e.kind() == ErrorKind::CacheFull => {
                let newest = parts.iter().map(|(lane, ..)| *lane).max();
                return Ok(newest.map(|lane| (self.lanes[lane].id, Err(e))).into_iter().collect());
            }
            result => result?,
        }
        let mut row = 0;
        let mut events = Vec::with_capacity(parts.len());
        for (lane, _, chooses) in parts {
            let Lane { id, generation, sequence: Some(sequence), .. } = &mut self.lanes[lane] else { continue };
            let chosen = chooses.then(|| {
                row += 1;
                generation.choose(engine, row - 1)
            });
            match chosen.transpose() {
                Ok(chosen) => {
                    let end = sequence.tokens().len();
                    generation.ran(engine, sequence, end, chosen, now);
                    events.push((*id, Ok(generation.after_a_step(tokenizer))));
                }
                Err(e) => events.push((*id, Err(e))),
            }
        }
        Ok(events)
    }

    async fn run(&mut self, engine: &mut Engine, parts: &[(usize, usize, bool)]) -> Result<()> {
        let choosers = parts.iter().filter(|(.., chooses)| *chooses).map(|(i, ..)| &self.lanes[*i].generation.chooser);
        let draws = engine.draws(choosers.map(|c| (c, 0)))?;
        let (mut rows, mut choosers) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        let lanes = self.lanes.iter_mut().enumerate();
        for (i, Lane { generation, sequence, .. }) in lanes {
            if let (Some(sequence), Some((_, len, chooses))) = (sequence, parts.iter().find(|(lane, ..)| *lane == i)) {
                let (tokens, chooser) = generation.next_part(*len);
                rows.push(Row { sequence, tokens, outputs: usize::from(*chooses) });
                choosers.extend(chooses.then_some(chooser));
            }
        }
        engine.run_rows(&mut rows, &draws, &mut |i, words| choosers[i].mask(words)).await
    }

    /// How many tokens each generation runs in the next step, and whether it gets a token after them; in the order of the
    /// lanes. Those past their prompts come first.
    fn parts(&mut self, engine: &Engine) -> Vec<(usize, usize, bool)> {
        let limits = engine.limits();
        let most = MAX_SEGMENTS.min(limits.max_outputs);
        let mut left = limits.max_tokens;
        self.turn += 1;
        let n = self.lanes.len();
        let mut order: Vec<_> = (0..n).map(|i| (i + self.turn) % n).filter(|i| self.lanes[*i].runs()).collect();
        order.sort_by_key(|i| self.lanes[*i].generation.reads());
        let mut parts = Vec::with_capacity(most);
        for i in order.into_iter().take(most) {
            let (tokens, chooses) = self.lanes[i].generation.part(engine, left);
            if !tokens.is_empty() {
                left -= tokens.len();
                parts.push((i, tokens.len(), chooses));
            }
        }
        parts.sort_unstable();
        parts
    }
}

impl Engine {
    /// Generates after each of the prompts, with parameters of its own, as many at once as the cache has room for; one that
    /// ends makes room for the next. `on_event` gets the number of a prompt and what happened to it, and returns whether
    /// it goes on. A prompt that is refused or fails ends alone.
    ///
    /// The error is one of a step that all of them shared.
    pub async fn generate_batch<'a>(
        &mut self,
        tokenizer: &Tokenizer,
        prompts: impl IntoIterator<Item = (&'a [u32], GenerateParams)>,
        now: &dyn Fn() -> f64,
        mut on_event: impl FnMut(usize, Result<Event>) -> bool,
    ) -> Result<()> {
        let mut batch = Batch::default();
        let mut rows = BTreeMap::new();
        for (row, (prompt, params)) in prompts.into_iter().enumerate() {
            match batch.add(self, tokenizer, prompt, params, now()) {
                Ok(id) => _ = rows.insert(id, row),
                Err(e) => _ = on_event(row, Err(e)),
            }
        }
        while !batch.is_empty() {
            let events = match batch.next(self, tokenizer, now).await {
                Ok(events) => events,
                Err(e) => {
                    batch.clear(self);
                    return Err(e);
                }
            };
            for (id, event) in events {
                if !on_event(rows[&id], event) {
                    batch.stop(self, id);
                }
            }
        }
        Ok(())
    }
}
