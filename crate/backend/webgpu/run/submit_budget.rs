//! Limits the work of a submit: a desktop or a tab that shares the GPU freezes while a submit runs, so each one gets about
//! as much as the GPU does in a twentieth of a second.
//!
//! Work is counted roughly, in multiply-adds: only the proportions between dispatches matter, because the work per
//! second is measured as steps run.

use web_time::Instant;

use super::cut::Rows;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::dispatch::Dispatch;
use crate::backend::webgpu::tuning::{GEMV_MAX_ROWS, Gemm, Tuning};
use crate::backend::{Counters, Step};

/// Submits per second.
const PER_SECOND: u64 = 20;

/// Work per second before it is measured: that of a slow adapter of each kind.
const HARDWARE: u64 = 100_000_000_000;
const SOFTWARE: u64 = 500_000_000;

/// The speed of the GPU, and with it the work of a submit.
pub(crate) struct SubmitBudget {
    /// Work per second.
    rate: u64,
    measured: bool,
    /// The start and the work of the step that is being timed.
    began: Option<(Instant, u64)>,
}

impl SubmitBudget {
    /// With the given rate, or a measured one.
    pub(crate) fn new(rate: Option<u64>, software: bool) -> Self {
        let guess = if software { SOFTWARE } else { HARDWARE };
        Self { rate: rate.unwrap_or(guess), measured: rate.is_none(), began: None }
    }

    /// The most work of a submit of this step. A step of one token is always one submit.
    pub(crate) fn of(&self, step: &Step<'_>) -> u64 {
        if step.len() == 1 { u64::MAX } else { self.rate / PER_SECOND }
    }

    /// Starts timing a step that has the GPU to itself. Short steps are not timed: latency dominates them.
    pub(crate) fn begin(&mut self, work: u64, step: &Step<'_>) {
        let tells = self.measured && step.len() > GEMV_MAX_ROWS && work >= self.rate / PER_SECOND / 5;
        self.began = tells.then(|| (Instant::now(), work));
    }

    /// Ends timing: the oldest step is complete.
    pub(crate) fn end(&mut self) {
        if let Some((began, work)) = self.began.take() {
            self.learn(work, began.elapsed().as_secs_f64());
        }
    }

    /// Averages with what was known: one slow step may have waited for something else.
    fn learn(&mut self, work: u64, seconds: f64) {
        let rate = work as f64 / seconds.max(1e-6);
        self.rate = (self.rate / 2).saturating_add((rate / 2.0) as u64).max(1);
    }
}

/// How many tokens of a step to run at once: as many as keep each dispatch within the budget, unless fewer would not make
/// any dispatch shorter. Those from the first row of logits on stay together.
pub(crate) fn tokens_at_once(run: &[Dispatch], rows: &Rows<'_>, budget: u64) -> usize {
    let most = rows.step().len();
    let longest = |n: usize| {
        let (_, last) = rows.split(most - n);
        run.iter().map(|d| d.work(&last.step())).max().unwrap_or(0)
    };
    let least = GEMV_MAX_ROWS.max(most - unanswered(&rows.step()));
    let mut n = most;
    while n.div_ceil(2) >= least && longest(n) > budget && longest(n.div_ceil(2)) < longest(n) {
        n = n.div_ceil(2);
    }
    n
}

/// How many tokens of a step to run at once so that its first positions are multiplied in f32 where others are in int8: those
/// up to there, if rows without logits and more than a few come after them.
pub(crate) fn alike(step: &Step<'_>, tuning: Tuning) -> usize {
    if tuning.gemm == Gemm::F32 {
        return step.len();
    }
    let mut rows = 0;
    for s in step.segments {
        let fine = tuning.fine.saturating_sub(s.pos);
        if fine > 0 && fine + GEMV_MAX_ROWS < s.tokens.len() && rows + fine <= unanswered(step) {
            return rows + fine;
        }
        rows += s.tokens.len();
    }
    step.len()
}

/// How many rows there are before the first one with logits.
pub(crate) fn unanswered(step: &Step<'_>) -> usize {
    step.output_rows().next().unwrap_or(step.len())
}

/// The work of dispatches in a step.
pub(crate) fn work_of(run: &[Dispatch], step: &Step<'_>) -> u64 {
    run.iter().map(|d| d.work(step)).sum()
}

/// How many of these dispatches fit into a submit: at least one.
pub(crate) fn fitting(run: &[Dispatch], step: &Step<'_>, budget: u64) -> usize {
    let mut total = 0u64;
    let over = run.iter().position(|d| {
        let (work, before) = (d.work(step), total);
        total = total.saturating_add(work);
        before > 0 && work > 0 && total > budget
    });
    over.unwrap_or(run.len())
}

/// Records a run and submits as much of it as is over the budget of one submit. Gives back the encoder of the rest;
/// `after` goes into its pass.
pub(crate) fn record(
    gpu: &Gpu,
    c: &mut Counters,
    mut run: &[Dispatch],
    step: &Step<'_>,
    budget: u64,
    mut encoder: wgpu::CommandEncoder,
    after: impl FnOnce(&mut wgpu::ComputePass<'_>),
) -> wgpu::CommandEncoder {
    loop {
        let (now, later) = run.split_at(fitting(run, step, budget));
        run = later;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for d in now {
            let Some(grid) = d.grid(step) else { continue };
            d.record(&mut pass, grid);
            c.dispatches += 1;
        }
        c.passes += 1;
        if run.is_empty() {
            after(&mut pass);
            drop(pass);
            return encoder;
        }
        drop(pass);
        gpu.queue.submit([encoder.finish()]);
        c.submits += 1;
        encoder = gpu.encoder();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Segment;

    #[test]
    fn the_rate_follows_what_is_measured_and_a_given_one_does_not() {
        let mut budget = SubmitBudget::new(None, true);
        let [long, short] = [64, 1].map(|n| [Segment::alone(&[0; 64][..n], 0, 1)]);
        let (long, short) = (Step::trunk(&long), Step::trunk(&short));
        assert_eq!(budget.of(&long), SOFTWARE / PER_SECOND);
        assert_eq!(budget.of(&short), u64::MAX, "decoding is never cut");
        (0..20).for_each(|_| budget.learn(3_000_000_000, 0.5));
        assert!((299_000_000..=300_000_000).contains(&budget.of(&long)), "{}", budget.rate);
        budget.learn(3_000_000_000, 1e9);
        assert!(budget.of(&long) > 140_000_000, "one step that hung halves it");
        let mut given = SubmitBudget::new(Some(1000), false);
        given.begin(1 << 40, &long);
        given.end();
        assert_eq!(given.of(&long), 50);
    }
}
