//! Going on after what an earlier engine said.

use super::Generation;
use crate::engine::chooser::Chosen;
use crate::engine::events::{Event, Mark};
use crate::error::{Error, ErrorKind, Result};
use crate::text::Tokenizer;

impl Generation {
    /// Repeats what was done before, and returns its event. The tokens run with the next steps, as those do whose place in
    /// the cache was given up.
    pub(in crate::engine) fn replay(
        &mut self,
        n_ctx: usize,
        tokenizer: &Tokenizer,
        mark: Mark,
    ) -> Result<Option<Event>> {
        if self.run > 0 || self.over {
            crate::bail!(InvalidState, "a generation that runs takes no earlier tokens");
        }
        let (id, logprobs) = match mark {
            Mark::Cached(n) => {
                (self.cached, self.noted) = (Some(n.min(self.prompt_len)), true);
                return Ok(None);
            }
            Mark::Done(reason) => {
                self.over = true;
                return Ok(Some(self.done(reason)));
            }
            Mark::Token { id, logprobs } => (id, logprobs),
        };
        if let Some(reason) = self.reason_to_stop(n_ctx) {
            crate::bail!(InvalidArgument, "token {id} cannot be taken again: the answer has ended ({})", reason.code());
        }
        if tokenizer.piece(id, true).is_none() {
            return Err(
                Error::new(ErrorKind::TokenOutOfRange, "the vocabulary has no such token").at(format!("token {id}"))
            );
        }
        self.chooser.replay(id)?;
        self.replayed += 1;
        match self.report(Chosen { id, logprobs }, tokenizer) {
            event @ Event::Token { .. } => Ok(Some(event)),
            _ => crate::bail!(InvalidArgument, "token {id} cannot be taken again: it ends the answer"),
        }
    }

    /// How many tokens of the prompt were in the cache, when that is known and for the first time.
    pub(in crate::engine) fn note_cached(&mut self) -> Option<usize> {
        self.cached.filter(|_| !std::mem::replace(&mut self.noted, true))
    }
}
