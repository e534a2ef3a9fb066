//! Causal attention over the rows of the cache. A task is one head for a few tokens.

use super::lanes::{Ints, Isa, Job, Lanes};
use super::math;
use super::matmul_f32::dots;
use super::pool::{Pool, Tile};
use crate::graph::Attention;

/// Tokens of a task: enough that a head's keys are read from the cache and not from memory, few enough to share out.
const TOKENS: usize = 8;

/// `y` and `q` [tokens, n_head * d_head]; `k` and `v` [n_ctx, n_kv_head * d_head], stored up to the last token, whose
/// first has position `pos`.
pub struct Attend<'a> {
    pub attn: Attention,
    pub q: &'a [f32],
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub pos: usize,
}

pub fn attention(pool: &Pool, isa: Isa, a: &Attend<'_>, y: &mut [f32]) {
    pool.tiles(y, a.attn.n_head * a.attn.d_head, (TOKENS, a.attn.d_head), |tile, worker| {
        let scores = &mut *pool.scratch(worker);
        isa.run(Part { a, tile, scores });
    });
}

struct Part<'a> {
    a: &'a Attend<'a>,
    tile: Tile<'a>,
    scores: &'a mut Vec<f32>,
}

impl Job for Part<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Ints>(self) {
        let Part { a, mut tile, scores } = self;
        let Attention { n_head, n_kv_head, d_head: d, window, .. } = a.attn;
        let head = tile.cols.start / d;
        let in_row = head / (n_head / n_kv_head) * d; // where the head that is shared lies
        let kv_cols = n_kv_head * d;
        for t in tile.rows.clone() {
            let last = a.pos + t;
            let first = window.map_or(0, |w| (last + 1).saturating_sub(w));
            let rows = first * kv_cols + in_row..last * kv_cols + in_row + d;
            let n = last + 1 - first;
            let q = &a.q[t * n_head * d + head * d..][..d];
            score::<L>(&a.attn, q, &a.k[rows.clone()], kv_cols, &mut scores[..n]);
            mix(tile.row(t), &scores[..n], &a.v[rows], kv_cols);
        }
    }
}

/// Scores of a query, turned into weights whose sum is 1. `keys` begins with the first key; the next lies `stride` on.
#[inline(always)]
fn score<L: Lanes>(attn: &Attention, q: &[f32], keys: &[f32], stride: usize, scores: &mut [f32]) {
    let d = q.len();
    let (fours, rest) = scores.as_chunks_mut::<4>();
    let n = fours.len();
    for (i, s) in fours.iter_mut().enumerate() {
        let mut key: [&[f32]; 4] = [&[]; 4];
        for j in 0..4 {
            key[j] = &keys[(i * 4 + j) * stride..][..d];
        }
        *s = dots::<L, 4, 1>(key, [q]).map(|[s]| s);
    }
    for (j, s) in rest.iter_mut().enumerate() {
        [[*s]] = dots::<L, 1, 1>([&keys[(n * 4 + j) * stride..][..d]], [q]);
    }
    scores.iter_mut().for_each(|s| *s *= attn.scale);
    if let Some(cap) = attn.softcap {
        scores.iter_mut().for_each(|s| *s = math::softcap(*s, cap));
    }
    let max = scores.iter().fold(f32::NEG_INFINITY, |m, &s| if s > m { s } else { m });
    let mut sums = [0f32; 16];
    for part in scores.chunks_mut(16) {
        for (s, sum) in part.iter_mut().zip(&mut sums) {
            *s = math::exp(*s - max);
            *sum += *s;
        }
    }
    let factor = 1.0 / sums.iter().sum::<f32>();
    scores.iter_mut().for_each(|s| *s *= factor);
}

/// The weighted sum of the values, four rows at a time.
#[inline(always)]
fn mix(y: &mut [f32], weights: &[f32], values: &[f32], stride: usize) {
    let d = y.len();
    y.fill(0.0);
    let (fours, rest) = weights.as_chunks::<4>();
    for (i, w) in fours.iter().enumerate() {
        let row = |j: usize| &values[(i * 4 + j) * stride..][..d];
        let (a, b, c, e) = (row(0), row(1), row(2), row(3));
        for (l, y) in y.iter_mut().enumerate() {
            *y += (w[0] * a[l] + w[1] * b[l]) + (w[2] * c[l] + w[3] * e[l]);
        }
    }
    for (j, &w) in rest.iter().enumerate() {
        let row = &values[(fours.len() * 4 + j) * stride..][..d];
        y.iter_mut().zip(row).for_each(|(y, v)| *y += w * v);
    }
}
