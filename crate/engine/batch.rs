//! Several generations at once, in steps that they share.

use super::events::Event;
use super::generate::{GenerateParams, Generation};
use super::{Engine, Row, Sequence};
use crate::backend::MAX_SEGMENTS;
use crate::error::{ErrorKind, Result};
use crate::text::Tokenizer;

/// Generations that run side by side on one engine. Each step takes a token of each that is past its prompt, and fills up
/// with parts of the prompts of others. So weights are read once for all of them.
///
/// A generation that runs alone has steps in flight ahead of its token, where the backend samples.
///
/// Each gives the tokens that it would give alone, where the backend computes a row alike in every step, as the CPU does.
/// Results of GPU kernels for other numbers of rows may differ in the last bits.
#[derive(Default)]
pub struct Batch {
    lanes: Vec<Lane>,
    next_id: u64,
    /// Whose turn it is first when prompts share what is left of a step.
    turn: usize,
}

struct Lane {
    id: u64,
    generation: Generation,
    sequence: Sequence,
}

impl Batch {
    /// Without generations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Generations that are not over.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Adds a generation and returns its number. Runs nothing.
    pub fn add(
        &mut self,
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        prompt: &[u32],
        params: GenerateParams,
        now_ms: f64,
    ) -> Result<u64> {
        if params.speculate.is_some() {
            crate::bail!(InvalidArgument, "generations of a batch cannot speculate; leave `speculate` out");
        }
        engine.generates()?;
        let mut generation = Generation::of(tokenizer, prompt, params, engine.limits().n_ctx, now_ms)?;
        let sequence = engine.resume(prompt)?;
        generation.goes_on_from(sequence.tokens().len());
        self.next_id += 1;
        self.lanes.push(Lane { id: self.next_id, generation, sequence });
        Ok(self.next_id)
    }

    /// Ends a generation, if it still runs. What it has in the cache is left to others.
    pub fn stop(&mut self, engine: &mut Engine, id: u64) {
        if let Some(i) = self.lanes.iter().position(|l| l.id == id) {
            engine.leave(self.lanes.remove(i).sequence);
        }
    }

    /// Runs at most one step and returns what it brought to which generation: nothing once all are over. A generation that
    /// has failed or is done is not in the batch any more.
    ///
    /// The error is one of the step: then nothing happened to any of them.
    pub async fn next(
        &mut self,
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        now: &dyn Fn() -> f64,
    ) -> Result<Vec<(u64, Result<Event>)>> {
        let n_ctx = engine.limits().n_ctx;
        let ready = |l: &mut Lane| l.generation.without_a_step(n_ctx, tokenizer).map(|e| (l.id, Ok(e)));
        let mut events: Vec<_> = self.lanes.iter_mut().filter_map(ready).collect();
        if events.is_empty() {
            match &mut self.lanes[..] {
                [] => {}
                [lane] => {
                    let Lane { generation, sequence, .. } = lane;
                    let event = generation.next_of(engine, sequence, tokenizer, now).await.transpose();
                    events.extend(event.map(|e| (lane.id, e)));
                }
                _ => events = self.step(engine, tokenizer, now).await?,
            }
        }
        for (id, event) in &events {
            if !matches!(event, Ok(Event::Prefill { .. } | Event::Token { .. })) {
                self.stop(engine, *id);
            }
        }
        Ok(events)
    }

    async fn step(
        &mut self,
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        now: &dyn Fn() -> f64,
    ) -> Result<Vec<(u64, Result<Event>)>> {
        let mut parts = self.parts(engine);
        // Who finds no room waits until others end.
        let mut refused = None;
        for i in (0..parts.len()).rev() {
            let (lane, len, _) = parts[i];
            if let Err(e) = engine.ready(&mut self.lanes[lane].sequence, len).await {
                if e.kind() != ErrorKind::CacheFull {
                    return Ok(vec![(self.lanes[lane].id, Err(e))]);
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
        let n_vocab = engine.n_vocab();
        let mut row = 0;
        let mut events = Vec::with_capacity(parts.len());
        for (lane, _, chooses) in parts {
            let Lane { id, generation, sequence } = &mut self.lanes[lane];
            let chosen = chooses.then(|| {
                row += 1;
                generation.choose(&mut engine.logits[(row - 1) * n_vocab..row * n_vocab])
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
        let (max_tokens, recurrent) = (engine.limits().max_tokens, engine.is_recurrent());
        let mut rows = Vec::with_capacity(parts.len());
        let lanes = self.lanes.iter_mut().enumerate();
        for (i, Lane { generation, sequence, .. }) in lanes {
            if let Some((_, len, chooses)) = parts.iter().find(|(lane, ..)| *lane == i) {
                let tokens = &generation.part(max_tokens, recurrent).0[..*len];
                rows.push(Row { sequence, tokens, outputs: usize::from(*chooses) });
            }
        }
        engine.run(&mut rows).await.map(|_| ())
    }

    /// How many tokens each generation runs in the next step, and whether it gets a token after them; in the order of the
    /// lanes. Those past their prompts come first.
    fn parts(&mut self, engine: &Engine) -> Vec<(usize, usize, bool)> {
        let (limits, recurrent) = (engine.limits(), engine.is_recurrent());
        let most = MAX_SEGMENTS.min(limits.max_outputs);
        let mut left = limits.max_tokens;
        self.turn += 1;
        let n = self.lanes.len();
        let mut order: Vec<_> = (0..n).map(|i| (i + self.turn) % n).collect();
        order.sort_by_key(|i| self.lanes[*i].generation.in_prompt());
        let mut parts = Vec::with_capacity(most);
        for i in order.into_iter().take(most) {
            let (tokens, chooses) = self.lanes[i].generation.part(left, recurrent);
            if !tokens.is_empty() {
                left -= tokens.len();
                parts.push((i, tokens.len(), chooses));
            }
        }
        parts.sort_unstable();
        parts
    }
}
