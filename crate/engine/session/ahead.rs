//! Steps whose tokens the backend chooses, several of them on their way at once.

use std::future::poll_fn;

use super::Session;
use crate::backend::{Choice, Rules, Step};
use crate::error::Result;
use crate::graph::Entry;

/// Tokens that the backend chooses: `start`, then `start_next` as far ahead as one likes, and a `take` for each.
///
/// A step's tokens count as in the cache once its choice was taken. Everything else that the session does, and a failed
/// `take`, drops the steps that were not taken. The rows of the cache that they wrote are past the end and written again
/// before they are read; recurrent states cannot go back, so the tokens run again from the checkpoint, when and if the
/// session goes on.
impl Session {
    /// Whether the backend can choose tokens by these rules. Makes ready what it needs for that.
    pub fn chooses(&mut self, rules: &Rules) -> Result<bool> {
        let most = self.backend.prepare_choice(rules)?;
        self.ahead.depth.limit(most);
        Ok(most > 0)
    }

    /// How many steps should be on their way.
    pub fn depth(&self) -> usize {
        self.ahead.depth.steps()
    }

    /// Tells when the token that was just taken came, in milliseconds from any fixed point: by that the depth grows.
    pub fn came(&mut self, now_ms: f64) {
        self.ahead.depth.came(now_ms);
    }

    /// Steps that were started and not taken.
    pub fn started(&self) -> usize {
        self.ahead.waiting
    }

    /// Where the next step would run, if there is room for it.
    pub fn next_position(&self) -> Option<usize> {
        let pos = self.tokens.len() + (self.ahead.running.len() + self.ahead.waiting).checked_sub(1)?;
        (pos < self.limits.n_ctx).then_some(pos)
    }

    /// Starts a step of those tokens of `all` that are not in the cache, at most `max_tokens` of them, and the choice of
    /// the token after them. `all` begins with the tokens in the cache.
    pub async fn start(&mut self, all: &[u32], rules: &Rules, key: u32) -> Result<()> {
        let have = self.tokens.len();
        let new = all.get(have..).unwrap_or_default();
        self.check(have, new)?;
        self.abandon();
        if self.seen < have {
            self.replay().await?;
        }
        self.drain().await?;
        let step = Step { tokens: new, pos: have, outputs: 1, entry: Entry::Trunk };
        self.submit_choice(&step, &Choice { rules, key, history: Some(all) })?;
        self.ahead.running.extend_from_slice(new);
        self.ahead.depth.restart();
        Ok(())
    }

    /// Starts a step of the token that the newest started step chooses.
    pub fn start_next(&mut self, rules: &Rules, key: u32) -> Result<()> {
        let Some(pos) = self.next_position() else {
            crate::bail!(InvalidState, "no started step chooses a token, or the context is full");
        };
        let step = Step { tokens: &[0], pos, outputs: 1, entry: Entry::Trunk };
        self.submit_choice(&step, &Choice { rules, key, history: None })
    }

    /// The token that the oldest started step chose.
    pub async fn take(&mut self) -> Result<u32> {
        self.drain().await?;
        if self.ahead.waiting == 0 {
            crate::bail!(InvalidState, "no step was started");
        }
        let result = poll_fn(|cx| self.backend.poll_choice(cx)).await;
        self.ahead.waiting -= 1;
        match result {
            Ok(id) => {
                self.tokens.append(&mut self.ahead.running);
                self.ahead.running.push(id);
                if !self.recurrent || self.ahead.waiting == 0 {
                    self.seen = self.tokens.len();
                }
            }
            Err(_) => self.abandon(),
        }
        result
    }

    fn submit_choice(&mut self, step: &Step<'_>, choice: &Choice<'_>) -> Result<()> {
        self.backend.submit_choice(step, choice)?;
        self.ahead.waiting += 1;
        // The states will have seen tokens that may not be wanted.
        if self.recurrent {
            self.seen = 0;
        }
        Ok(())
    }

    /// Drops the steps that were not taken.
    pub(super) fn abandon(&mut self) {
        self.ahead.surplus += std::mem::take(&mut self.ahead.waiting);
        self.ahead.running.clear();
    }

    /// Reads what nobody wants any more: a backend gives back in order.
    pub(super) async fn drain(&mut self) -> Result<()> {
        if let Some(rows) = self.unread {
            self.read(rows).await?;
        }
        while self.ahead.surplus > 0 {
            // Whatever it is: a device that is lost says so in the next call too.
            let _ = poll_fn(|cx| self.backend.poll_choice(cx)).await;
            self.ahead.surplus -= 1;
        }
        Ok(())
    }
}
