//! Steps of several rows: proposed tokens, as far as they are what would have been chosen.

use super::Generation;
use crate::engine::chooser::Chosen;
use crate::engine::{Engine, Sequence};
use crate::error::Result;

impl Generation {
    /// Runs the last token and some that are proposed after it, and chooses one token or more.
    pub(super) async fn speculate(
        &mut self,
        engine: &mut Engine,
        sequence: &mut Sequence,
        now: &dyn Fn() -> f64,
    ) -> Result<()> {
        let speculation = self.speculation.as_mut().expect("the caller looked");
        let wanted = self.max_tokens - (self.tokens.len() - self.prompt_len);
        let most = (wanted - 1).min(engine.limits().n_ctx - self.run - 1).min(self.chooser.left() - 1);
        let began = now();
        let ahead = 1 + speculation.rest();
        let most = speculation.length(most);
        if !speculation.propose_and_verify(engine, sequence, (&self.tokens, &self.chooser), most).await? {
            let rows = speculation.propose(engine, sequence, (&self.tokens, &mut self.chooser), most, now).await?;
            if rows.len() == 1 {
                let id = engine.choose_next(sequence, &self.tokens, &mut self.chooser, wanted.min(ahead), now).await?;
                self.ran(engine, sequence, self.tokens.len(), Some(id), now);
                let ms = self.last_ms - began;
                let all = &mut engine.counting.done.speculated;
                self.speculation.iter_mut().for_each(|s| s.learn(0, 0, ms, all));
                return Ok(());
            }
            let draws = engine.draws((0..rows.len()).map(|i| (&self.chooser, i)))?;
            engine.verify(sequence, rows, (&draws, &mut self.chooser.masks(&rows[1..]))).await?;
        }
        let rows = speculation.rows();
        let known = self.tokens.len();
        let mut result = Ok(());
        for (i, next) in (0..rows.len()).map(|i| (i, rows.get(i + 1))) {
            match engine.choose_row(i, &mut self.chooser, &self.tokens) {
                Ok(id) => self.chosen.push(Chosen { id, logprobs: self.chooser.logprobs().cloned() }),
                Err(e) => result = Err(e),
            }
            match (&result, next) {
                (Ok(()), Some(id)) if self.chosen.last().is_some_and(|c| c.id == *id) => self.tokens.push(*id),
                _ => break,
            }
        }
        self.tokens.truncate(known);
        // A row that cannot be sampled is met again in the next step, as its first.
        if self.chosen.is_empty() {
            return result;
        }
        let n = self.chosen.len();
        engine.accept(sequence, rows, n);
        self.run += n;
        self.last_ms = now();
        let drafted = rows.len() - 1;
        speculation.learn(drafted, n - 1, self.last_ms - began, &mut engine.counting.done.speculated);
        self.take_forced(engine.limits().n_ctx);
        Ok(())
    }
}
