//! What a step gives: rows of logits, or tokens that the backend chose from them, so that the rows need not come to the host.

use std::future::poll_fn;
use std::task::Poll;

use super::Engine;
use super::chooser::Chooser;
use super::queue::{Masks, Unread};
use super::sampler::refuse_degenerate;
use crate::backend::{Draw, Step};
use crate::error::{Error, Result};
use crate::graph::Entry;

/// Steps of fewer tokens are too short to run in parts.
const SLICED_TOKENS: usize = 8;

impl Engine {
    /// How the backend chooses the tokens of a step's rows: for each row its chooser, and how many others of its draws come
    /// before. Nothing if it cannot choose all of them; then they are chosen from rows of logits.
    pub(super) fn draws<'a>(&mut self, rows: impl Iterator<Item = (&'a Chooser, usize)>) -> Result<Vec<Draw>> {
        let mut draws = Vec::new();
        for (chooser, ahead) in rows {
            match chooser.draw(ahead) {
                Some(draw) if self.backend.prepare_rows(&draw.rules)? => draws.push(draw),
                _ => return Ok(Vec::new()),
            }
        }
        Ok(draws)
    }

    /// Runs a step. Its rows of logits are read, or, with draws, the tokens that the backend chooses from them.
    pub(super) async fn submit_and_choose(&mut self, step: &Step<'_>, draws: &[Draw], masks: Masks<'_>) -> Result<()> {
        self.drawn.clear();
        if draws.is_empty() {
            return self.submit_and_read(step).await;
        }
        self.submit_draws(step, draws, 0)?;
        let failed = self.submit_masks(draws, masks)?;
        self.read_unread().await?;
        failed.into_iter().for_each(|(i, e)| self.drawn[i] = Err(e));
        Ok(())
    }

    /// Gives the masks of the step that runs, if it waits for some. Rows whose masks cannot be made are returned: they let nothing
    /// through.
    fn submit_masks(&mut self, draws: &[Draw], masks: Masks<'_>) -> Result<Vec<(usize, Error)>> {
        let mut failed = Vec::new();
        if !draws.iter().any(|d| d.masked) {
            return Ok(failed);
        }
        let row = self.n_vocab.div_ceil(32);
        let mut words = std::mem::take(&mut self.mask_words);
        words.clear();
        for (i, draw) in draws.iter().enumerate() {
            if draw.masked
                && let Err(e) = masks(i, &mut words)
            {
                failed.push((i, e));
            }
            words.resize((i + 1) * row, 0);
        }
        let submitted = self.backend.submit_masks(&words);
        self.mask_words = words;
        if submitted.is_err() {
            self.unread = None;
        }
        submitted.map(|()| failed)
    }

    /// Starts a step whose tokens the backend draws; so many of the last ones that it runs were drafted there.
    pub(super) fn submit_draws(&mut self, step: &Step<'_>, draws: &[Draw], drafted: usize) -> Result<()> {
        self.drawn.clear();
        self.backend.submit_rows(step, draws, drafted)?;
        self.counting.step(step);
        self.unread = Some(Unread::Tokens(draws.len()));
        Ok(())
    }

    pub(super) async fn submit_and_read(&mut self, step: &Step<'_>) -> Result<()> {
        let cols = match step.entry {
            Entry::Trunk | Entry::Given => self.n_output,
            Entry::Mtp | Entry::MtpChain => self.mtp_vocab,
        };
        let len = step.outputs() * cols;
        self.submit_in_slices(step).await?;
        self.counting.step(step);
        self.unread = Some(Unread::Logits(len));
        self.read_unread().await?;
        for row in self.logits[..len].chunks_exact_mut(cols.max(1)) {
            // Before some are suppressed: that would hide that all were equal.
            refuse_degenerate(row)?;
            for &id in self.suppressed.iter().filter(|id| (**id as usize) < cols) {
                row[id as usize] = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Submits a step: a long one in parts, between which whoever polls can do other things, and give the step up. One that was
    /// given up leaves nothing: the next step begins anew.
    async fn submit_in_slices(&mut self, step: &Step<'_>) -> Result<()> {
        let Some(work) = self.slices.filter(|_| step.len() >= SLICED_TOKENS) else { return self.backend.submit(step) };
        let mut from = 0;
        loop {
            let slice = self.backend.submit_slice(step, from, work)?;
            if slice.is_last() {
                return Ok(());
            }
            self.unread = Some(Unread::Logits(0));
            self.read_unread().await?;
            from = slice.next;
            pause().await;
        }
    }

    /// Reads what the last step gave.
    pub(super) async fn read_unread(&mut self) -> Result<()> {
        let result = match self.unread {
            None => return Ok(()),
            Some(Unread::Logits(len)) => {
                let logits = &mut self.logits[..len];
                poll_fn(|cx| self.backend.poll_logits(cx, logits)).await
            }
            Some(Unread::Tokens(n)) => {
                self.drawn.resize(n, Ok(0));
                poll_fn(|cx| self.backend.poll_rows(cx, &mut self.drawn)).await
            }
        };
        self.unread = None;
        result
    }

    /// The token after row `i` of the last step, by the chooser whose draw it was.
    pub(super) fn choose_row(&mut self, i: usize, chooser: &mut Chooser, history: &[u32]) -> Result<u32> {
        match self.drawn.get(i) {
            Some(drawn) => chooser.drew(drawn.clone()),
            None => chooser.choose(&mut self.logits[i * self.n_vocab..][..self.n_vocab], history),
        }
    }
}

/// Is not done when it is polled for the first time.
async fn pause() {
    let mut polled = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
