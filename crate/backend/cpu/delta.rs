//! The gated delta net. States are updated in place, token by token. Chunks of tokens, as on the GPU, save reads of the
//! state and no arithmetic; here some columns of the state stay in a core's cache instead, while many tokens run.

use super::lanes::{Chunk, Ints, Isa, Job, Lanes};
use super::math;
use super::matmul_f32::dots;
use super::pool::{Pool, Tile};
use crate::graph::{Act, Delta};

/// Columns of a convolution that a thread takes at once.
const CONV_COLUMNS: usize = 512;

/// The scratch that a worker needs for a convolution.
pub(super) fn conv_scratch_len(n_conv: usize) -> usize {
    n_conv * CONV_COLUMNS
}

/// `y` and `x` [tokens, cols], `taps` [cols, n_conv]; `state` [n_conv - 1, cols] holds the previous inputs, oldest
/// first.
pub(super) fn ssm_conv(pool: &Pool, isa: Isa, x: &[f32], taps: &[f32], state: &mut [f32], y: &mut [f32]) {
    let cols = taps.len() - state.len(); // there is one more tap than inputs in the state
    let (tokens, n_past) = (y.len() / cols, state.len() / cols);
    let past = &*state;
    pool.tiles(y, cols, (tokens, CONV_COLUMNS), |mut tile, worker| {
        let scratch = &mut *pool.scratch(worker);
        isa.wide(
            #[inline(always)]
            || {
                let (at, n_conv) = (tile.cols.clone(), n_past + 1);
                // Tap by tap, so that columns lie side by side.
                let rows = &mut scratch[..n_conv * at.len()];
                for (j, row) in rows.chunks_exact_mut(at.len()).enumerate() {
                    let taps = taps[at.start * n_conv..].iter().skip(j).step_by(n_conv);
                    row.iter_mut().zip(taps).for_each(|(r, tap)| *r = *tap);
                }
                for t in 0..tokens {
                    let y = tile.row(t);
                    y.fill(0.0);
                    for (j, row) in (t..).zip(rows.chunks_exact(y.len())) {
                        let from = if j < n_past { &past[j * cols..] } else { &x[(j - n_past) * cols..] };
                        y.iter_mut().zip(&from[at.clone()]).zip(row).for_each(|((y, x), tap)| *y += x * tap);
                    }
                    y.iter_mut().for_each(|y| *y = math::act(Act::Silu, *y));
                }
            },
        );
    });
    let new = tokens.min(n_past) * cols;
    state.copy_within(new.., 0);
    let old = state.len() - new;
    state[old..].copy_from_slice(&x[x.len() - new..]);
}

/// The inputs of the delta rule: `q` and `k` [tokens, n_k_head * d], `v` [tokens, n_v_head * d], `alpha` and `beta`
/// [tokens, n_v_head], `a` and `dt` [n_v_head].
pub(super) struct Rule<'a> {
    pub delta: Delta,
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub alpha: &'a [f32],
    pub beta: &'a [f32],
    pub a: &'a [f32],
    pub dt: &'a [f32],
}

/// Columns of a state that are rewritten together, in chunks: with the rows of usual heads they fit in a core's
/// first-level cache, side by side.
const CHUNKS: usize = 2;
const COLUMNS: usize = 16 * CHUNKS;

/// Tokens that run through some columns before others are read.
const TOKENS: usize = 64;

/// The scratch that a worker needs for the delta rule.
pub(super) fn rule_scratch_len(delta: Delta) -> usize {
    3 * TOKENS + delta.d_head * COLUMNS
}

/// `y` [tokens, n_v_head * d]; `state` [n_v_head, key, value].
pub(super) fn delta_rule(pool: &Pool, isa: Isa, rule: &Rule<'_>, state: &mut [f32], y: &mut [f32]) {
    let Delta { n_v_head, d_head: d, .. } = rule.delta;
    pool.heads(n_v_head, y, state, d, |tile, state, worker| {
        let head = tile.cols.start / d;
        isa.run(Head { rule, head, state, tile, scratch: &mut pool.scratch(worker) });
    });
}

/// All tokens of one head.
struct Head<'a> {
    rule: &'a Rule<'a>,
    head: usize,
    state: &'a mut [f32],
    tile: Tile<'a>,
    scratch: &'a mut [f32],
}

/// What the columns of a token share: the part of the state that stays, the part of the change that is made, and the
/// product of k and q.
type Gates = [f32; 3];

impl Job for Head<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Ints>(self) {
        let Self { rule, head, state, mut tile, scratch } = self;
        let Delta { n_v_head, d_head: d, .. } = rule.delta;
        let (gates, scratch) = scratch.split_at_mut(3 * TOKENS);
        let (gates, m) = (gates.as_chunks_mut().0, &mut scratch[..d * COLUMNS]);
        for first in tile.rows.clone().step_by(TOKENS) {
            let tokens = first..tile.rows.end.min(first + TOKENS);
            for (t, gates) in tokens.clone().zip(&mut *gates) {
                *gates = rule.gates::<L>(t, head);
            }
            for c in (0..d).step_by(COLUMNS) {
                let width = COLUMNS.min(d - c);
                for (row, m) in state.chunks_exact(d).zip(m.chunks_exact_mut(COLUMNS)) {
                    m[..width].copy_from_slice(&row[c..c + width]);
                    m[width..].fill(0.0);
                }
                for (t, gates) in tokens.clone().zip(&*gates) {
                    let mut v = [[0.0; 16]; CHUNKS];
                    v.as_flattened_mut()[..width].copy_from_slice(&rule.v[(t * n_v_head + head) * d + c..][..width]);
                    update::<L>(m.as_chunks_mut().0.as_chunks_mut().0, rule.keys(t, head), *gates, &mut v);
                    tile.row(t)[c..c + width].copy_from_slice(&v.as_flattened()[..width]);
                }
                for (row, m) in state.chunks_exact_mut(d).zip(m.chunks_exact(COLUMNS)) {
                    row[c..c + width].copy_from_slice(&m[..width]);
                }
            }
        }
    }
}

impl Rule<'_> {
    /// k and q of a token.
    #[inline(always)]
    fn keys(&self, t: usize, head: usize) -> [&[f32]; 2] {
        let Delta { n_k_head, d_head: d, .. } = self.delta;
        let at = (t * n_k_head + head % n_k_head) * d;
        [&self.k[at..][..d], &self.q[at..][..d]]
    }

    #[inline(always)]
    fn gates<L: Lanes>(&self, t: usize, head: usize) -> Gates {
        let (i, [k, q]) = (t * self.delta.n_v_head + head, self.keys(t, head));
        let decay = (self.a[head] * softplus(self.alpha[i] + self.dt[head])).exp();
        let beta = 1.0 / (1.0 + (-self.beta[i]).exp());
        [decay, beta, dots::<L, 1, 1>([k], [q])[0][0]]
    }
}

/// One token in some columns of a head, whose rows are those of `m`. `v` becomes the result.
#[inline(always)]
fn update<L: Lanes>(m: &mut [[Chunk; CHUNKS]], [k, q]: [&[f32]; 2], [decay, beta, kq]: Gates, v: &mut [Chunk; CHUNKS]) {
    // What the old state says to k and to q.
    let (mut seen, mut result) = ([L::zero(); CHUNKS], [L::zero(); CHUNKS]);
    for ((row, k), q) in m.iter().zip(k).zip(q) {
        let (k, q) = (L::splat(*k), L::splat(*q));
        for c in 0..CHUNKS {
            let m = L::load(&row[c]);
            seen[c] = L::fma(m, k, seen[c]);
            result[c] = L::fma(m, q, result[c]);
        }
    }
    let (less, beta, kq, decay) = (L::splat(-decay), L::splat(beta), L::splat(kq), L::splat(decay));
    let mut change = [L::zero(); CHUNKS];
    for c in 0..CHUNKS {
        change[c] = L::fma(L::fma(seen[c], less, L::load(&v[c])), beta, L::zero());
        v[c] = L::store(L::fma(result[c], decay, L::fma(change[c], kq, L::zero())));
    }
    for (row, k) in m.iter_mut().zip(k) {
        let k = L::splat(*k);
        for c in 0..CHUNKS {
            row[c] = L::store(L::fma(k, change[c], L::fma(L::load(&row[c]), decay, L::zero())));
        }
    }
}

/// ln(1 + e^x), without overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
