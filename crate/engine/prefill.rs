//! Many tokens of one sequence, in as many steps as they take.

use super::{Engine, Row, Sequence};
use crate::error::Result;

impl Engine {
    /// Appends tokens to a sequence, in one step or several, and returns the logits after the last of them.
    pub async fn prefill(&mut self, sequence: &mut Sequence, ids: &[u32]) -> Result<&mut [f32]> {
        self.check(sequence.tokens.len(), ids)?;
        let last = self.last_stretch(ids);
        let (before, last) =
            ids.split_at(last + (ids.len() - last - 1) / self.limits.max_tokens * self.limits.max_tokens);
        if !before.is_empty() {
            self.prefill_part(sequence, before).await?;
        }
        self.run(&mut [Row { sequence, tokens: last, outputs: 1 }]).await
    }

    /// Appends the tokens of a part of a prompt without logits.
    pub async fn prefill_part(&mut self, sequence: &mut Sequence, ids: &[u32]) -> Result<()> {
        self.check(sequence.tokens.len(), ids)?;
        let mut rest = ids;
        while !rest.is_empty() {
            let (tokens, later) = rest.split_at(self.cut(rest, self.limits.max_tokens.min(rest.len())));
            self.run(&mut [Row { sequence, tokens, outputs: 0 }]).await?;
            rest = later;
        }
        Ok(())
    }

    /// Appends tokens and passes the logits after each of them to `each`, in order. A step has at most as many tokens
    /// as the rows of logits that the model was opened with.
    pub async fn prefill_all(
        &mut self,
        sequence: &mut Sequence,
        ids: &[u32],
        mut each: impl FnMut(&[f32]),
    ) -> Result<()> {
        self.check(sequence.tokens.len(), ids)?;
        let cols = self.n_output;
        let mut at = 0;
        while at < ids.len() {
            let n = self.stretch(&ids[at..])?.len.min(self.limits.max_outputs);
            let tokens = &ids[at..at + n];
            let rows = self.run(&mut [Row { sequence, tokens, outputs: n }]).await?;
            rows.chunks_exact(cols).for_each(&mut each);
            at += n;
        }
        Ok(())
    }
}
