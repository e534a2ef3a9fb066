//! Long steps in slices: a desktop or a tab that shares the GPU stands still while a submit runs, so each one is given
//! about as much work as the GPU does in a twentieth of a second.
//!
//! Work is counted in multiply-adds, roughly: only the proportion of the dispatches matters, because how much of it a
//! second holds is measured as steps run.

use web_time::Instant;

use super::device::Gpu;
use super::dispatch::Dispatch;
use super::kernels::FEW;
use crate::backend::{Counters, Step};
use crate::graph::{Graph, Op};

/// Slices of a second.
const PER_SECOND: u64 = 20;

/// What a value that is read or written costs, which memory decides.
const VALUE: usize = 64;

/// Work of a second until one was measured: that of slow adapters of each kind.
const HARDWARE: u64 = 20_000_000_000;
const SOFTWARE: u64 = 500_000_000;

/// What a dispatch does besides multiplying weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// For a row.
    row: usize,
    /// For each key that a row sees, and how many it sees at most.
    key: usize,
    window: Option<usize>,
}

impl Work {
    pub fn of(g: &Graph, node: usize) -> Self {
        let cols = g.nodes[node].shape.map_or(1, |s| s.cols);
        match &g.nodes[node].op {
            Op::Attention { attn: a, .. } => Self { row: cols * VALUE, key: 2 * cols, window: a.window },
            // Its chunks come one after the other.
            Op::DeltaRule { delta, .. } => Self { row: 16 * cols * delta.d_head, ..Self::default() },
            _ => Self { row: cols * VALUE, ..Self::default() },
        }
    }

    /// Of so many rows that end after `keys` keys. A packed byte of weights is two multiply-adds, and to read it costs
    /// as much as to multiply it with a few rows.
    pub fn total(self, weight_bytes: u64, rows: usize, keys: usize) -> u64 {
        let seen = keys.min(self.window.unwrap_or(keys));
        2 * weight_bytes * rows.max(FEW) as u64 + (rows * (self.row + self.key * seen)) as u64
    }
}

/// How fast the GPU is.
pub struct Pace {
    /// Work per second.
    rate: u64,
    measured: bool,
    /// When the step began that is being timed, and its work.
    began: Option<(Instant, u64)>,
}

impl Pace {
    /// With a rate that is given, or else measured.
    pub fn new(rate: Option<u64>, software: bool) -> Self {
        let guess = if software { SOFTWARE } else { HARDWARE };
        Self { rate: rate.unwrap_or(guess), measured: rate.is_none(), began: None }
    }

    /// Work of a submit of this step, at most. A step of one token is one submit always.
    pub fn slice(&self, step: &Step<'_>) -> u64 {
        if step.tokens.len() == 1 { u64::MAX } else { self.rate / PER_SECOND }
    }

    /// A step begins that has the GPU for itself. The time of short ones says more about the way to the GPU.
    pub fn begin(&mut self, run: &[Dispatch], step: &Step<'_>) {
        let work = run.iter().map(|d| d.work(step)).sum();
        let tells = self.measured && step.tokens.len() > FEW && work >= self.rate / PER_SECOND / 5;
        self.began = tells.then(|| (Instant::now(), work));
    }

    /// The oldest step is over.
    pub fn end(&mut self) {
        if let Some((began, work)) = self.began.take() {
            self.learn(work, began.elapsed().as_secs_f64());
        }
    }

    /// Half of what is known stays: one slow step may have waited for something else.
    fn learn(&mut self, work: u64, seconds: f64) {
        let rate = work as f64 / seconds.max(1e-6);
        self.rate = (self.rate / 2).saturating_add((rate / 2.0) as u64).max(1);
    }
}

/// Tokens of a step that run at once: as many as keep each dispatch within a slice, if fewer make any shorter. Rows of
/// logits all come from the last ones.
pub fn tokens(run: &[Dispatch], step: &Step<'_>, slice: u64) -> usize {
    let most = step.tokens.len();
    let longest = |n: usize| {
        let (tokens, pos) = (&step.tokens[..n], step.pos + most - n);
        run.iter().map(|d| d.work(&Step { tokens, pos, ..*step })).max().unwrap_or(0)
    };
    let least = FEW.max(step.outputs);
    let mut n = most;
    while n.div_ceil(2) >= least && longest(n) > slice && longest(n.div_ceil(2)) < longest(n) {
        n = n.div_ceil(2);
    }
    n
}

/// How many of these dispatches fit into a submit; at least one that runs.
fn slice(run: &[Dispatch], step: &Step<'_>, most: u64) -> usize {
    let mut total = 0u64;
    let over = run.iter().position(|d| {
        let (work, before) = (d.work(step), total);
        total = total.saturating_add(work);
        before > 0 && work > 0 && total > most
    });
    over.unwrap_or(run.len())
}

/// Records a run and submits all slices of it but the last, whose encoder it gives back; `after` goes into its pass.
pub fn record(
    gpu: &Gpu,
    mut run: &[Dispatch],
    step: &Step<'_>,
    most: u64,
    c: &mut Counters,
    mut encoder: wgpu::CommandEncoder,
    after: impl FnOnce(&mut wgpu::ComputePass<'_>),
) -> wgpu::CommandEncoder {
    loop {
        let (now, later) = run.split_at(slice(run, step, most));
        run = later;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for d in now {
            let Some([x, y, z]) = d.grid(step) else { continue };
            pass.set_pipeline(&d.pipeline);
            pass.set_bind_group(0, &d.group, &[]);
            pass.dispatch_workgroups(x, y, z);
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
    use crate::graph::Entry;

    #[test]
    fn the_rate_follows_what_is_measured_and_a_given_one_does_not() {
        let mut pace = Pace::new(None, true);
        let step = |n| Step { tokens: &[0; 64][..n], pos: 0, outputs: 1, entry: Entry::Trunk };
        assert_eq!(pace.slice(&step(64)), SOFTWARE / PER_SECOND);
        assert_eq!(pace.slice(&step(1)), u64::MAX, "decoding is never cut");
        (0..20).for_each(|_| pace.learn(3_000_000_000, 0.5));
        assert!((299_000_000..=300_000_000).contains(&pace.slice(&step(64))), "{}", pace.rate);
        pace.learn(3_000_000_000, 1e9);
        assert!(pace.slice(&step(64)) > 140_000_000, "one step that hung halves it");
        let mut given = Pace::new(Some(1000), false);
        given.begin(&[], &step(64));
        given.end();
        assert_eq!(given.slice(&step(64)), 50);
    }

    #[test]
    fn work_grows_with_weights_rows_and_the_keys_of_a_window() {
        let work = Work { row: 3, key: 5, window: Some(100) };
        assert_eq!(work.total(0, 2, 40), 2 * (3 + 5 * 40));
        assert_eq!(work.total(0, 2, 400), 2 * (3 + 5 * 100));
        assert_eq!(work.total(7, 64, 0) - work.total(0, 64, 0), 2 * 7 * 64);
        assert_eq!(work.total(7, 1, 0) - work.total(0, 1, 0), 2 * 7 * FEW as u64, "to read weights costs too");
    }
}
