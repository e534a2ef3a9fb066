//! Chooses the tokens of one generation: by its sampler, among those that its grammar lets through.

use std::collections::VecDeque;

use super::budget::{Budget, ReasoningBudget};
use super::{Engine, Sampler, Sequence};
use crate::backend::{Draw, Logprobs};
use crate::error::Result;
use crate::grammar::{GrammarSource, Matcher, Vocabulary};
use crate::text::Tokenizer;

/// A token that was chosen.
pub(super) struct Chosen {
    pub id: u32,
    pub logprobs: Option<Logprobs>,
}

/// The grammar goes on by each token once that is chosen; what nobody chose never reaches it.
pub(super) struct Chooser {
    sampler: Sampler,
    grammar: Option<Matcher>,
    /// Of its reasoning.
    budget: Option<Budget>,
    /// Tokens that must come next: the grammar is past them.
    forced: VecDeque<u32>,
}

impl Chooser {
    pub(super) fn new(
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        sampler: Sampler,
        grammar: Option<GrammarSource>,
        budget: Option<ReasoningBudget>,
    ) -> Result<Self> {
        let grammar = grammar.map(|source| engine.matcher(tokenizer, &source)).transpose()?;
        let budget = budget.map(|budget| Budget::new(budget, tokenizer)).transpose()?;
        let mut new = Self { sampler, grammar, budget, forced: VecDeque::new() };
        new.force()?;
        Ok(new)
    }

    /// Tokens that can be chosen until others must come.
    pub(super) fn left(&self) -> usize {
        self.budget.as_ref().map_or(usize::MAX, Budget::left)
    }

    /// How likely the last token was, if that is wanted.
    pub(super) fn logprobs(&self) -> Option<&Logprobs> {
        self.sampler.logprobs()
    }

    /// Chooses a token from a row of logits after `history`.
    pub(super) fn choose(&mut self, row: &mut [f32], history: &[u32]) -> Result<u32> {
        if let Some(id) = self.next_forced() {
            return Ok(id);
        }
        let mask = self.grammar.as_mut().map(Matcher::mask).transpose()?;
        let id = self.sampler.choose(row, mask, history)?;
        self.chose(id)?;
        Ok(id)
    }

    /// The next token that needs no row of logits. It counts as a draw, so that those after it are the same either way.
    pub(super) fn next_forced(&mut self) -> Option<u32> {
        let id = self.forced.pop_front()?;
        self.sampler.count(None);
        if let Some(budget) = &mut self.budget {
            budget.take(id);
        }
        Some(id)
    }

    /// Takes a token that was chosen here before, on another engine.
    pub(super) fn replay(&mut self, id: u32) -> Result<()> {
        match self.next_forced() {
            None => self.drew(Ok(id)).map(|_| ()),
            Some(forced) if forced == id => Ok(()),
            Some(forced) => crate::bail!(InvalidArgument, "token {id} cannot be taken again: {forced} must come here"),
        }
    }

    /// How the token after `ahead` others is drawn, if a backend need only know its row of logits and the mask of that. A row
    /// whose token is known counts as a draw too.
    pub(super) fn draw(&self, ahead: usize) -> Option<Draw> {
        let is_known = !self.forced.is_empty();
        let rules = self.sampler.rules().filter(|_| !is_known || ahead == 0)?;
        Some(Draw { rules, key: self.sampler.key(ahead), masked: self.grammar.is_some() && !is_known })
    }

    /// Whether its tokens depend on those before them in more than their logits.
    pub(super) fn has_grammar(&self) -> bool {
        self.grammar.is_some()
    }

    /// Writes the mask of the next token.
    pub(super) fn mask(&mut self, words: &mut Vec<u32>) -> Result<()> {
        write_mask(self.grammar.as_mut(), words)
    }

    /// Writes the masks of the next token and of those after each of some drafts, by their numbers, one after another.
    pub(super) fn masks<'a>(&'a self, drafts: &'a [u32]) -> impl FnMut(usize, &mut Vec<u32>) -> Result<()> + 'a {
        let mut ahead = None;
        move |i, words| {
            let grammar = ahead.get_or_insert_with(|| self.grammar.clone());
            if let (Some(grammar), Some(last)) = (grammar.as_mut(), i.checked_sub(1)) {
                grammar.accept(drafts[last])?;
            }
            write_mask(grammar.as_mut(), words)
        }
    }

    /// Takes the token that a backend drew so, or the one that must come in its place.
    pub(super) fn drew(&mut self, id: Result<u32>) -> Result<u32> {
        if let Some(forced) = self.next_forced() {
            return Ok(forced);
        }
        let id = id?;
        self.sampler.count(None);
        self.chose(id)?;
        Ok(id)
    }

    /// How many of these tokens can come next.
    pub(super) fn allows(&mut self, tokens: &[u32]) -> Result<usize> {
        self.grammar.as_mut().map_or(Ok(tokens.len()), |g| g.allows(tokens))
    }

    /// Whether the grammar has come to its end, and all tokens were taken.
    pub(super) fn is_over(&self) -> bool {
        self.forced.is_empty() && self.grammar.as_ref().is_some_and(Matcher::is_over)
    }

    fn chose(&mut self, id: u32) -> Result<()> {
        if let Some(grammar) = &mut self.grammar {
            grammar.accept(id)?;
        }
        if let Some(budget) = &mut self.budget {
            budget.take(id);
        }
        self.force()
    }

    /// Takes the tokens that must come next: the end of a block of reasoning that has used up its budget, and what the grammar
    /// says. With log-probabilities each of those needs its row of logits.
    fn force(&mut self) -> Result<()> {
        if let Some(end) = self.budget.as_ref().and_then(Budget::end) {
            for &id in end {
                self.grammar.as_mut().map_or(Ok(()), |grammar| grammar.accept(id))?;
                self.forced.push_back(id);
            }
        }
        let Some(grammar) = self.grammar.as_mut().filter(|_| !self.sampler.reports()) else { return Ok(()) };
        for id in grammar.forced()? {
            grammar.accept(id)?;
            self.forced.push_back(id);
        }
        Ok(())
    }
}

fn write_mask(grammar: Option<&mut Matcher>, words: &mut Vec<u32>) -> Result<()> {
    words.extend_from_slice(grammar.map_or(Ok(&[][..]), Matcher::mask)?);
    Ok(())
}

impl Engine {
    /// A matcher at the start of a grammar. The tokens are prepared once for each tokenizer.
    fn matcher(&mut self, tokenizer: &Tokenizer, source: &GrammarSource) -> Result<Matcher> {
        let kept = self.vocabulary.take().filter(|v| v.is_of(tokenizer));
        let vocabulary = self.vocabulary.insert(kept.map_or_else(|| Vocabulary::new(tokenizer), Ok)?);
        vocabulary.grammar(source).map(|g| g.matcher())
    }

    /// Runs the tokens of `all` that the sequence does not have, and chooses the token after the last of them.
    pub(super) async fn choose_next(
        &mut self,
        s: &mut Sequence,
        all: &[u32],
        chooser: &mut Chooser,
        wanted: usize,
        now: &dyn Fn() -> f64,
    ) -> Result<u32> {
        let new = all.get(s.tokens.len()..).unwrap_or_default();
        if !chooser.forced.is_empty() {
            // Its first tokens need no logits.
            self.prefill_part(s, new).await?;
            return chooser.choose(&mut [], all);
        }
        let wanted = wanted.min(chooser.left());
        let Chooser { sampler, grammar, .. } = chooser;
        let Some(grammar) = grammar else {
            let id = self.next_token(s, all, sampler, wanted, now).await?;
            return chooser.chose(id).map(|()| id);
        };
        if let Some(id) = self.next_masked(s, all, sampler, grammar, now).await? {
            return chooser.chose(id).map(|()| id);
        }
        chooser.choose(self.prefill(s, new).await?, all)
    }
}
