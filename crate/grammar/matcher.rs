//! Follows one answer, and says which tokens can come next.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::TokenParser;
use llguidance::api::StopReason;
use llguidance::panic_utils::catch_unwind;
use llguidance::toktrie::SimpleVob;

use super::{forced, schema};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// Where an answer is in its grammar. A clone goes on by itself.
#[derive(Clone)]
pub struct Matcher {
    parser: TokenParser,
    /// All tokens that end an answer.
    ends: Arc<SimpleVob>,
    /// Of the present state, once it was asked for.
    mask: Option<Arc<SimpleVob>>,
    /// Ends that were accepted after the parser had stopped.
    after: usize,
}

/// What llguidance says, without what it adds for its own developers.
pub(super) fn bad(e: impl std::fmt::Display) -> Error {
    let text = e.to_string();
    let cut = |t: &str, mark| t.split(mark).next().unwrap_or_default().to_owned();
    let said = ["<non-verbose/>", "<state>", "<backtrace>"].into_iter().fold(text, |t, mark| cut(&t, mark));
    Error::new(ErrorKind::BadGrammar, schema::said(said.trim()))
}

impl Matcher {
    /// At the start.
    pub(super) fn new(mut parser: TokenParser, ends: &[u32]) -> Self {
        parser.start_without_prompt();
        let mut set = parser.token_env.tok_trie().alloc_token_set();
        ends.iter().for_each(|id| set.allow_token(*id));
        Self { parser, ends: Arc::new(set), mask: None, after: 0 }
    }

    /// Runs something that may go wrong in foreign code.
    fn guarded<T>(&mut self, f: impl FnOnce(&mut TokenParser) -> anyhow::Result<T>) -> Result<T> {
        catch_unwind(AssertUnwindSafe(|| f(&mut self.parser))).map_err(bad)
    }

    /// The tokens that can come next: bit `id % 32` of word `id / 32`. A token past the last word cannot. Fails where that
    /// takes more than the caps allow.
    pub fn mask(&mut self) -> Result<&[u32]> {
        if self.mask.is_none() {
            self.mask = Some(match self.is_over() {
                true => self.ends.clone(),
                false => Arc::new(self.guarded(|p| forced::check(p).and_then(|()| p.compute_mask()))?),
            });
        }
        Ok(self.mask.as_ref().map_or(&[], |m| m.as_slice()))
    }

    /// How many of these tokens can come next, one after another.
    pub fn allows(&mut self, tokens: &[u32]) -> Result<usize> {
        if self.is_over() {
            return Ok(tokens.iter().take_while(|id| self.is_end(**id)).count().min(1));
        }
        let n = self.parser.token_env.tok_trie().vocab_size();
        let known = tokens.iter().position(|id| *id as usize >= n).unwrap_or(tokens.len());
        self.guarded(|p| p.validate_tokens_raw(&tokens[..known]))
    }

    /// Goes on by a token. One that cannot come next is refused, and changes nothing.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        if self.allows(&[token])? == 0 {
            bail!(InvalidArgument, "token {token} cannot come next in the grammar");
        }
        self.mask = None;
        if self.is_over() {
            self.after += 1;
            return Ok(());
        }
        self.guarded(|p| {
            p.consume_token(token)?;
            p.check_stop()
        })
        .map(|_| ())
    }

    /// Whether the answer may end here.
    pub fn may_stop(&mut self) -> Result<bool> {
        Ok(self.is_over() || self.guarded(|p| Ok(p.is_accepting()))?)
    }

    /// Whether the answer has ended: nothing but an end can come next.
    pub fn is_over(&self) -> bool {
        matches!(self.parser.stop_reason(), StopReason::NoExtension | StopReason::EndOfSentence)
    }

    /// The tokens that must come next, as the tokenizer would write them: none where there is a choice, or where the
    /// vocabulary lacks single bytes.
    pub fn forced(&mut self) -> Result<Vec<u32>> {
        if self.is_over() {
            return Ok(Vec::new());
        }
        self.guarded(|p| forced::check(p).map(|()| p.compute_ff_tokens()))
    }

    /// Takes back the last `n` tokens.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        let have = self.after + self.parser.num_tokens();
        if n > have {
            bail!(InvalidArgument, "cannot take back {n} tokens: {have} were accepted");
        }
        self.mask = None;
        let after = n.min(self.after);
        self.after -= after;
        self.guarded(|p| p.rollback(n - after))
    }

    /// States of the lexer that this and all clones have found.
    pub(super) fn states(&self) -> usize {
        self.parser.parser.lexer_stats().num_states
    }

    fn is_end(&self, id: u32) -> bool {
        (id as usize) < self.ends.len() && self.ends.is_allowed(id)
    }
}
