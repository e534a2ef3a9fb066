//! Speculative decoding: something cheap proposes the next tokens, and one step of several rows says how many of them are
//! right (<https://arxiv.org/abs/2211.17192>).
//!
//! A proposal is one run of tokens, not a distribution. The sampler draws from each row as it always does, and the proposal
//! is right as far as it says what was drawn. So the tokens are those of plain decoding, drawn with the same random numbers:
//! greedy or not, a proposer changes how fast they come and never which.

use serde::{Deserialize, Serialize};

use super::chooser::Chooser;
use super::queue::Masks;
use super::stats::Speculated;
use super::{Engine, Sampler, SamplerParams, Sequence, Session};
use crate::backend::{Draw, MAX_KEPT, MAX_SEGMENTS, Step};
use crate::bail;
use crate::error::Result;
use crate::text::Tokenizer;

/// Who proposes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProposerName {
    /// What followed the last tokens where they came before: for texts that repeat parts of the prompt.
    Lookup,
    /// The model's own block for multi-token prediction, which goes on from its own result after the first token.
    Mtp,
    /// A smaller model with the same vocabulary, which the host has opened.
    Draft,
}

/// How to speculate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpeculateParams {
    /// Who proposes.
    pub proposer: ProposerName,
    /// The most tokens of a proposal; fewer where those are seldom right. At most the `drafts` with which the model was
    /// opened, which is the default.
    #[serde(default)]
    pub max_draft: Option<usize>,
}

/// A model that proposes tokens to a larger one.
pub struct Draft {
    session: Session,
    greedy: Sampler,
    /// The tokens so far, and the proposal: kept, so that proposals do not allocate.
    all: Vec<u32>,
}

impl Draft {
    /// Refuses a model that cannot propose to `target`: token ids must mean the same. Each comes with its tokenizer.
    pub fn new((draft, own): (Session, &Tokenizer), (target, of_target): (&Engine, &Tokenizer)) -> Result<Self> {
        // Models of a family may pad their vocabularies to different lengths: those ids are no tokens.
        let n = draft.n_vocab().min(target.n_vocab()) as u32;
        let differs = |id: &u32| own.piece(*id, true) != of_target.piece(*id, true);
        if let Some(id) = (0..n).find(differs) {
            bail!(
                InvalidArgument,
                "token {id} of the draft model is another than that of the model; use a smaller model of the same family"
            );
        }
        if draft.limits().n_ctx < target.limits().n_ctx {
            bail!(
                InvalidArgument,
                "the draft model was opened with a context of {} tokens, the model with {}; open it with as many",
                draft.limits().n_ctx,
                target.limits().n_ctx
            );
        }
        let all = Vec::with_capacity(draft.limits().n_ctx + 1);
        Ok(Self { session: draft, greedy: Sampler::new(SamplerParams::greedy())?, all })
    }

    /// `n_vocab` is that of the model. Where the backend samples, the steps of a proposal are in flight together.
    async fn propose(
        &mut self,
        n_vocab: usize,
        tokens: &[u32],
        most: usize,
        out: &mut Vec<u32>,
        now: &dyn Fn() -> f64,
    ) -> Result<()> {
        let Self { session, greedy, all } = self;
        if tokens.iter().any(|id| *id as usize >= session.n_vocab()) {
            return Ok(());
        }
        session.reuse(tokens)?;
        all.clear();
        all.extend_from_slice(tokens);
        while out.len() < most && all.len() <= session.limits().n_ctx {
            let id = session.next_token(all, greedy, most - out.len(), now).await?;
            if id as usize >= n_vocab {
                break;
            }
            out.push(id);
            all.push(id);
        }
        Ok(())
    }
}

enum Proposer {
    Lookup,
    Mtp,
    Draft(Box<Draft>),
}

/// The speculation of one generation.
pub(super) struct Speculation {
    proposer: Proposer,
    max: usize,
    /// How many tokens are proposed next.
    depth: usize,
    pace: Pace,
    pub done: Speculated,
    /// The token before the proposal, and the proposal.
    rows: Vec<u32>,
}

impl Speculation {
    pub(super) fn new(params: SpeculateParams, draft: Option<Draft>, engine: &Engine) -> Result<Self> {
        let proposer = match (params.proposer, draft) {
            (ProposerName::Lookup, None) => Proposer::Lookup,
            (ProposerName::Mtp, None) if engine.has_mtp() => Proposer::Mtp,
            (ProposerName::Mtp, None) => {
                bail!(
                    InvalidArgument,
                    "the model was opened without a block for multi-token prediction, or its file has none"
                )
            }
            (ProposerName::Draft, Some(draft)) => Proposer::Draft(Box::new(draft)),
            (ProposerName::Draft, None) => bail!(InvalidArgument, "no draft model was given"),
            (_, Some(_)) => bail!(InvalidArgument, "a draft model was given, but another proposer was asked for"),
        };
        let room = engine.drafts;
        let max = params.max_draft.unwrap_or(room);
        if room == 0 {
            bail!(
                InvalidArgument,
                "the model was opened without `drafts`; open it with as many as a proposal may have"
            );
        }
        if max == 0 || max > room {
            bail!(
                InvalidArgument,
                "a proposal may have 1 to {room} tokens, not {max}; open the model with more `drafts`"
            );
        }
        let max = if engine.is_recurrent() { max.min(MAX_KEPT - 1) } else { max };
        let rows = Vec::with_capacity(MAX_SEGMENTS);
        // It grows while proposals are right: a text that does not repeat itself pays for short ones only.
        let depth = max.min(2);
        Ok(Self { proposer, max, depth, pace: Pace::default(), done: Speculated::default(), rows })
    }

    /// How many tokens are proposed now, of at most so many.
    pub(super) fn length(&mut self, most: usize) -> usize {
        if self.pace.pays() { self.depth.min(most) } else { 0 }
    }

    /// Proposes up to `most` tokens and verifies them, where the backend chooses both: then nothing comes to the host in between.
    /// Not with a grammar: masks of proposals need proposals.
    /// Returns whether it did.
    pub(super) async fn propose_and_verify(
        &mut self,
        engine: &mut Engine,
        sequence: &mut Sequence,
        (tokens, chooser): (&[u32], &Chooser),
        most: usize,
    ) -> Result<bool> {
        if most == 0 || !matches!(self.proposer, Proposer::Mtp) || chooser.has_grammar() {
            return Ok(false);
        }
        let draws = engine.draws((0..=most).map(|i| (chooser, i)))?;
        if draws.is_empty() {
            return Ok(false);
        }
        engine.chain_and_verify(sequence, tokens[tokens.len() - 1], &draws, &mut self.rows).await
    }

    /// The last token and up to `most` proposed ones after it, which the grammar lets through. `tokens` are those of the
    /// sequence and one more.
    pub(super) async fn propose(
        &mut self,
        engine: &mut Engine,
        sequence: &mut Sequence,
        (tokens, chooser): (&[u32], &mut Chooser),
        most: usize,
        now: &dyn Fn() -> f64,
    ) -> Result<&[u32]> {
        let last = tokens[tokens.len() - 1];
        let mut drafts = std::mem::take(&mut self.rows);
        drafts.clear();
        if most > 0 {
            match &mut self.proposer {
                Proposer::Lookup => drafts.extend_from_slice(lookup(tokens, most)),
                Proposer::Mtp => engine.mtp_chain(sequence, last, most, &mut drafts).await?,
                Proposer::Draft(draft) => draft.propose(engine.n_vocab(), tokens, most, &mut drafts, now).await?,
            }
        }
        // An image is looked at, not said.
        drafts.truncate(drafts.iter().take_while(|id| !engine.is_of_image(**id)).count());
        drafts.truncate(chooser.allows(&drafts)?);
        drafts.insert(0, last);
        self.rows = drafts;
        Ok(&self.rows)
    }

    pub(super) fn into_draft(self) -> Option<Draft> {
        if let Proposer::Draft(draft) = self.proposer { Some(*draft) } else { None }
    }

    /// For how many of the next steps nothing is proposed.
    pub(super) fn rest(&self) -> usize {
        self.pace.rest
    }

    /// The proposal of the last `propose`.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Learns from a step, with `drafted` proposed tokens of which so many were right, that took so long. Adds it to `all`
    /// too.
    pub(super) fn learn(&mut self, drafted: usize, accepted: usize, ms: f64, all: &mut Speculated) {
        for sum in [&mut self.done, all] {
            sum.steps += 1;
            sum.drafted += drafted;
            sum.accepted += accepted;
        }
        if drafted > 0 {
            self.depth =
                if accepted == drafted { (self.depth * 2).min(self.max) } else { (accepted + 1).min(self.max) };
        }
        self.pace.learn(drafted > 0, accepted + 1, ms);
    }
}

/// Whether proposals pay: milliseconds per token with and without them.
#[derive(Default)]
struct Pace {
    plain: Mean,
    proposed: Mean,
    /// Steps for which nothing is proposed.
    rest: usize,
    /// For how many the next time.
    longer: usize,
}

/// A mean that forgets.
#[derive(Default)]
struct Mean {
    ms: f64,
    tokens: f64,
}

impl Mean {
    fn add(&mut self, tokens: usize, ms: f64) {
        // The last eight or so count.
        (self.ms, self.tokens) = (self.ms * 0.875 + ms, self.tokens * 0.875 + tokens as f64);
    }

    fn per_token(&self) -> Option<f64> {
        (self.tokens >= 3.0).then(|| self.ms / self.tokens)
    }
}

/// Steps without proposals after they did not pay: at first, and at most.
const REST: usize = 16;
const LONGEST_REST: usize = 256;

impl Pace {
    fn pays(&mut self) -> bool {
        let resting = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        !resting
    }

    fn learn(&mut self, proposed: bool, tokens: usize, ms: f64) {
        let mean = if proposed { &mut self.proposed } else { &mut self.plain };
        mean.add(tokens, ms);
        let (Some(plain), Some(with)) = (self.plain.per_token(), self.proposed.per_token()) else { return };
        if proposed && with > plain {
            self.longer = (self.longer * 2).clamp(REST, LONGEST_REST);
            self.rest = self.longer;
            self.proposed = Mean::default();
        } else if proposed && with < 0.8 * plain {
            self.longer = 0;
        }
    }
}

/// The longest and the shortest run of last tokens that is looked for.
const LONGEST: usize = 5;
const SHORTEST: usize = 3;

/// What followed the last tokens where they came before, most lately first: up to `most` tokens.
fn lookup(tokens: &[u32], most: usize) -> &[u32] {
    let n = tokens.len();
    for len in (SHORTEST..=LONGEST.min(n.saturating_sub(1))).rev() {
        let last = &tokens[n - len..];
        let found = (0..n - len).rev().find(|i| &tokens[*i..i + len] == last);
        if let Some(i) = found {
            return &tokens[i + len..n.min(i + len + most)];
        }
    }
    &[]
}

impl Engine {
    /// Runs tokens of a sequence, with logits or a token after each, without adding them to it: `accept` does that.
    pub(super) async fn verify(
        &mut self,
        s: &mut Sequence,
        tokens: &[u32],
        (draws, masks): (&[Draw], Masks<'_>),
    ) -> Result<()> {
        let pos = s.tokens().len();
        self.check(pos, tokens)?;
        self.ready(s, tokens.len()).await?;
        self.abandon();
        self.drain().await?;
        self.begin_states(s, tokens.len())?;
        self.submit_and_choose(&Step::trunk(&[s.segment(tokens, pos, tokens.len())]), draws, masks).await
    }

    /// Adds the first `n` of the tokens that were verified to the sequence.
    pub(super) fn accept(&mut self, s: &mut Sequence, tokens: &[u32], n: usize) {
        s.end_states(tokens.len() - n);
        s.tokens.extend_from_slice(&tokens[..n]);
        self.settle(s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_finds_the_latest_and_longest_run() {
        assert_eq!(lookup(&[1, 2, 3, 4, 9, 1, 2, 3], 4), [4, 9, 1, 2]);
        assert_eq!(lookup(&[1, 2, 3, 4, 7, 2, 3, 4, 5, 1, 2, 3, 4], 1), [7], "four tokens beat three later ones");
        assert_eq!(lookup(&[1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3], 2), [8, 1], "the latest of equal ones");
        assert_eq!(lookup(&[5, 5, 5, 5], 3), [5], "a run may overlap itself");
        for none in [&[][..], &[1], &[1, 2, 1, 2], &[1, 2, 3, 4]] {
            assert_eq!(lookup(none, 3), [0; 0]);
        }
    }

    #[test]
    fn proposals_rest_while_they_do_not_pay_and_are_tried_again() {
        let mut pace = Pace::default();
        (0..8).for_each(|_| pace.learn(false, 1, 10.0));
        (0..4).for_each(|_| pace.learn(true, 3, 15.0));
        assert!(pace.pays(), "three tokens in the time of one and a half");
        while pace.rest == 0 {
            pace.learn(true, 1, 15.0);
        }
        assert_eq!((0..).take_while(|_| !pace.pays()).count(), REST);
        (0..4).for_each(|_| pace.learn(true, 1, 15.0));
        assert_eq!((0..).take_while(|_| !pace.pays()).count(), 2 * REST, "each rest is longer");
        (0..9).for_each(|_| pace.learn(true, 4, 15.0));
        assert!(pace.pays() && pace.longer == 0);
    }
}
