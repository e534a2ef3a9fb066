//! Mixture of experts, one token after another.

use super::lanes::Isa;
use super::matmul::{Matrix, matmul};
use super::pool::Pool;

/// `x` [tokens, n_expert] router logits; `y` [tokens, 2 * n_used]: the best experts, and their shares.
pub fn moe_route(x: &[f32], n_expert: usize, n_used: usize, y: &mut [f32]) {
    for (logits, y) in x.chunks_exact(n_expert).zip(y.chunks_exact_mut(2 * n_used)) {
        let (experts, shares) = y.split_at_mut(n_used);
        for i in 0..n_used {
            let free = (0..n_expert).filter(|e| !experts[..i].contains(&(*e as f32)));
            // The lower number wins a tie. A router that gives no number (NaN) still gets some expert.
            let best = free.reduce(|a, b| if logits[b] > logits[a] { b } else { a }).expect("n_used <= n_expert");
            experts[i] = best as f32;
            shares[i] = (logits[best] - logits[experts[0] as usize]).exp();
        }
        let sum: f32 = shares.iter().sum();
        shares.iter_mut().for_each(|s| *s /= sum);
    }
}

/// `w` holds the experts one after another; `x` has a row for each token or for each expert of it, as `x_cols` tells;
/// `y` [tokens, n_used * rows of an expert].
pub fn moe_matmul(
    (pool, isa): (&Pool, Isa),
    w: Matrix<'_>,
    (x, x_cols): (&[f32], usize),
    (route, n_used): (&[f32], usize),
    (y, y_cols): (&mut [f32], usize),
) {
    let n = y_cols / n_used;
    let expert_bytes = n * w.row_bytes();
    let tokens = x.chunks_exact(x_cols).zip(route.chunks_exact(2 * n_used)).zip(y.chunks_exact_mut(y_cols));
    for ((x, route), y) in tokens {
        for (i, y) in y.chunks_exact_mut(n).enumerate() {
            let bytes = &w.bytes[route[i] as usize * expert_bytes..][..expert_bytes];
            let x = if x_cols == w.cols { x } else { &x[i * w.cols..][..w.cols] };
            matmul(pool, isa, Matrix { bytes, ..w }, x, y);
        }
    }
}

/// `x` [tokens, n_used * cols], `y` [tokens, cols].
pub fn moe_sum(isa: Isa, x: &[f32], route: &[f32], n_used: usize, y: &mut [f32], cols: usize) {
    isa.wide(
        #[inline(always)]
        || {
            let tokens = x.chunks_exact(n_used * cols).zip(route.chunks_exact(2 * n_used));
            for ((x, route), y) in tokens.zip(y.chunks_exact_mut(cols)) {
                y.fill(0.0);
                for (x, share) in x.chunks_exact(cols).zip(&route[n_used..]) {
                    y.iter_mut().zip(x).for_each(|(y, x)| *y += x * share);
                }
            }
        },
    );
}
