//! Mixture of experts, token by token.

use super::lanes::Isa;

/// `x` [tokens, n_expert] router logits; `y` [tokens, 2 * n_used]: the chosen experts, then their shares of the softmax
/// over all experts or, with `renormalise`, over the chosen ones.
pub(super) fn moe_route(x: &[f32], n_expert: usize, n_used: usize, renormalise: bool, y: &mut [f32]) {
    for (logits, y) in x.chunks_exact(n_expert).zip(y.chunks_exact_mut(2 * n_used)) {
        let (experts, shares) = y.split_at_mut(n_used);
        for i in 0..n_used {
            let free = (0..n_expert).filter(|e| !experts[..i].contains(&(*e as f32)));
            // The lower number wins a tie. If the router gives NaN, some expert is still chosen.
            let best = free.reduce(|a, b| if logits[b] > logits[a] { b } else { a }).expect("n_used <= n_expert");
            experts[i] = best as f32;
            shares[i] = (logits[best] - logits[experts[0] as usize]).exp();
        }
        let top = logits[experts[0] as usize];
        let sum: f32 = if renormalise { shares.iter().sum() } else { logits.iter().map(|l| (l - top).exp()).sum() };
        shares.iter_mut().for_each(|s| *s /= sum);
    }
}

/// Calls `multiply(expert, row of x, row of y)` for all experts of all tokens. `x` has a row per token, or with
/// `own_rows` one per expert of a token; `y` [tokens, n_used * rows of an expert].
pub(super) fn moe_matmul(
    (route, n_used): (&[f32], usize),
    own_rows: bool,
    (y, y_cols): (&mut [f32], usize),
    multiply: impl Fn(usize, usize, &mut [f32]),
) {
    for (t, (route, y)) in route.chunks_exact(2 * n_used).zip(y.chunks_exact_mut(y_cols)).enumerate() {
        for (i, y) in y.chunks_exact_mut(y_cols / n_used).enumerate() {
            multiply(route[i] as usize, if own_rows { t * n_used + i } else { t }, y);
        }
    }
}

/// `x` [tokens, n_used * cols], `y` [tokens, cols].
pub(super) fn moe_sum(isa: Isa, x: &[f32], route: &[f32], n_used: usize, y: &mut [f32], cols: usize) {
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
