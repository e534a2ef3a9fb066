//! Ops that process each row by itself.

use std::ops::Range;

use super::lanes::Isa;
use super::math;
use super::pool::Pool;
use crate::backend::Step;
use crate::graph::{Act, Rope, RopePairs};

/// The fewest values for which a second thread pays.
const GRAIN: usize = 16 << 10;

/// Calls `f(row number, row of y)` for all rows of `y` [rows, cols], on several threads if that pays.
pub(super) fn each_row(pool: &Pool, isa: Isa, y: &mut [f32], cols: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    pool.tiles(y, cols, (GRAIN.div_ceil(cols), cols), |mut tile, _| {
        isa.wide(
            #[inline(always)]
            || tile.rows.clone().for_each(|r| f(r, tile.row(r))),
        );
    });
}

/// `w` has as many values as a head, `x` any number of heads.
pub(super) fn rms_norm(pool: &Pool, isa: Isa, x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    let n = w.len();
    each_row(
        pool,
        isa,
        y,
        n,
        #[inline(always)]
        |r, y| {
            let x = &x[r * n..][..n];
            let mean = sum16(x, |v| v * v) / n as f32;
            let factor = 1.0 / (mean + eps).sqrt();
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = x * factor * w;
            }
        },
    );
}

/// `w` and `b` have as many values as a row.
pub(super) fn layer_norm(pool: &Pool, isa: Isa, x: &[f32], [w, b]: [&[f32]; 2], eps: f32, y: &mut [f32]) {
    let n = w.len();
    each_row(
        pool,
        isa,
        y,
        n,
        #[inline(always)]
        |r, y| {
            let x = &x[r * n..][..n];
            let mean = sum16(x, |v| v) / n as f32;
            let variance = sum16(x, |v| (v - mean) * (v - mean)) / n as f32;
            let factor = 1.0 / (variance + eps).sqrt();
            for ((y, x), (w, b)) in y.iter_mut().zip(x).zip(w.iter().zip(b)) {
                *y = (x - mean) * factor * w + b;
            }
        },
    );
}

/// The sum of `f` over all values, in 16 sums that a register holds.
#[inline(always)]
fn sum16(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for c in chunks {
        for i in 0..16 {
            sums[i] += f(c[i]);
        }
    }
    rest.iter().zip(&mut sums).for_each(|(v, s)| *s += f(*v));
    sums.iter().sum()
}

/// Rows of `w` [rows, cols], each times its share: a row of `x`, which is `len` long, is `n` row numbers and then shares. Without
/// numbers, those of all rows.
pub(super) fn blend(pool: &Pool, isa: Isa, (x, len, n): (&[f32], usize, usize), w: &[f32], y: &mut [f32], cols: usize) {
    each_row(
        pool,
        isa,
        y,
        cols,
        #[inline(always)]
        |r, y| {
            let (numbers, shares) = x[r * len..][..len].split_at(n);
            y.fill(0.0);
            for (i, share) in shares.iter().enumerate() {
                let row = numbers.get(i).map_or(i, |number| *number as usize);
                y.iter_mut().zip(&w[row * cols..][..cols]).for_each(|(y, w)| *y += share * w);
            }
        },
    );
}

/// Calls `f(range, part of y)` for parts of `y`, for element-wise ops.
fn each_part(pool: &Pool, isa: Isa, y: &mut [f32], f: impl Fn(Range<usize>, &mut [f32]) + Sync) {
    let len = y.len();
    pool.tiles(y, len, (1, GRAIN), |mut tile, _| {
        isa.wide(
            #[inline(always)]
            || f(tile.cols.clone(), tile.row(0)),
        );
    });
}

pub(super) fn add(pool: &Pool, isa: Isa, a: &[f32], b: &[f32], y: &mut [f32]) {
    each_part(
        pool,
        isa,
        y,
        #[inline(always)]
        |at, y| y.iter_mut().zip(&a[at.clone()]).zip(&b[at]).for_each(|((y, a), b)| *y = a + b),
    );
}

pub(super) fn glu(pool: &Pool, isa: Isa, gate: &[f32], up: &[f32], act: Act, y: &mut [f32]) {
    each_part(
        pool,
        isa,
        y,
        #[inline(always)]
        |at, y| y.iter_mut().zip(&gate[at.clone()]).zip(&up[at]).for_each(|((y, &g), u)| *y = math::act(act, g) * u),
    );
}

pub(super) fn activate(pool: &Pool, isa: Isa, x: &[f32], act: Act, y: &mut [f32]) {
    each_part(
        pool,
        isa,
        y,
        #[inline(always)]
        |at, y| y.iter_mut().zip(&x[at]).for_each(|(y, &x)| *y = math::act(act, x)),
    );
}

pub(super) fn softcap(pool: &Pool, isa: Isa, x: &[f32], cap: f32, y: &mut [f32]) {
    each_part(
        pool,
        isa,
        y,
        #[inline(always)]
        |at, y| y.iter_mut().zip(&x[at]).for_each(|(y, &x)| *y = math::softcap(x, cap)),
    );
}

pub(super) fn add_bias(pool: &Pool, isa: Isa, x: &[f32], b: &[f32], y: &mut [f32]) {
    let cols = b.len();
    each_row(
        pool,
        isa,
        y,
        cols,
        #[inline(always)]
        |r, y| {
            let x = &x[r * cols..][..cols];
            y.iter_mut().zip(x).zip(b).for_each(|((y, x), b)| *y = x + b);
        },
    );
}

/// `gate` has as many columns as `x`, or one.
pub(super) fn sigmoid_gate(pool: &Pool, isa: Isa, x: &[f32], gate: &[f32], y: &mut [f32]) {
    let per_gate = x.len() / gate.len().max(1);
    each_part(
        pool,
        isa,
        y,
        #[inline(always)]
        |at, y| {
            for ((y, x), i) in y.iter_mut().zip(&x[at.clone()]).zip(at) {
                *y = x * math::sigmoid(gate[i / per_gate]);
            }
        },
    );
}

/// Rows of a, of `cols` columns, each followed by its row of b.
pub(super) fn concat(a: &[f32], b: &[f32], cols: usize, y: &mut [f32]) {
    let rows = a.len() / cols;
    for (r, y) in y.chunks_exact_mut(cols + b.len() / rows.max(1)).enumerate() {
        let (left, right) = y.split_at_mut(cols);
        left.copy_from_slice(&a[r * cols..][..cols]);
        right.copy_from_slice(&b[r * right.len()..][..right.len()]);
    }
}

/// Columns `start .. start + len` of each run of `group`.
pub(super) fn slice(x: &[f32], group: usize, start: usize, len: usize, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(group).zip(y.chunks_exact_mut(len)) {
        y.copy_from_slice(&x[start..start + len]);
    }
}

pub(super) fn l2_norm(pool: &Pool, isa: Isa, x: &[f32], d_head: usize, (eps, scale): (f32, f32), y: &mut [f32]) {
    each_row(
        pool,
        isa,
        y,
        d_head,
        #[inline(always)]
        |r, y| {
            let x = &x[r * d_head..][..d_head];
            let factor = scale / (sum16(x, |v| v * v) + eps).sqrt();
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor);
        },
    );
}

/// The sines and cosines of a step, shared by all ropes of the same kind: they cost more than the rotation.
pub(super) struct RopeTable {
    pub rope: Rope,
    /// Angle per position of each pair, and its coordinate.
    speeds: Vec<(f64, usize)>,
    /// `(cos, sin)` [tokens, n_rot / 2].
    turns: Vec<(f32, f32)>,
}

impl RopeTable {
    pub(super) fn new(rope: Rope, freqs: Option<&[f32]>) -> Self {
        let speed = |i: usize| {
            let power = f64::from(rope.base).powf(rope.power(i));
            (power * f64::from(rope.scale) / freqs.map_or(1.0, |f| f64::from(f[i])), rope.axis(i))
        };
        Self { rope, speeds: (0..rope.n_rot / 2).map(speed).collect(), turns: Vec::new() }
    }

    /// Computes the table of a step.
    pub(super) fn turn(&mut self, step: &Step<'_>) {
        let turn = |angle: f64| (angle.cos() as f32, angle.sin() as f32);
        let speeds = &self.speeds;
        self.turns.clear();
        let places = step.places(self.rope.square());
        self.turns.extend(places.flat_map(|p| speeds.iter().map(move |(s, axis)| turn(p[*axis] as f64 * s))));
    }

    /// Rotates the heads of `x` [tokens, cols], which are rows of the step from `first` on.
    pub(super) fn apply(&self, pool: &Pool, isa: Isa, x: &[f32], first: usize, cols: usize, y: &mut [f32]) {
        let half = self.rope.n_rot / 2;
        each_row(
            pool,
            isa,
            y,
            cols,
            #[inline(always)]
            |r, y| {
                y.copy_from_slice(&x[r * cols..][..cols]);
                let turns = &self.turns[(first + r) * half..][..half];
                for head in y.chunks_exact_mut(self.rope.d_head) {
                    match self.rope.pairs {
                        RopePairs::Adjacent => {
                            for ([a, b], turn) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                                (*a, *b) = rotate(*a, *b, *turn);
                            }
                        }
                        RopePairs::Halves => {
                            let (a, b) = head[..2 * half].split_at_mut(half);
                            for ((a, b), turn) in a.iter_mut().zip(b).zip(turns) {
                                (*a, *b) = rotate(*a, *b, *turn);
                            }
                        }
                    }
                }
            },
        );
    }
}

#[inline(always)]
fn rotate(a: f32, b: f32, (cos, sin): (f32, f32)) -> (f32, f32) {
    (a * cos - b * sin, a * sin + b * cos)
}
