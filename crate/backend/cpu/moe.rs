//! Mixture of experts. The rows of a step are sorted by expert, so that each expert's matrix is read once.

use super::lanes::Isa;
use super::pool::{Groups, Pool};
use super::rows::each_row;

/// The fewest logits for which a second thread pays.
const GRAIN: usize = 4096;

/// `x` [tokens, n_expert] router logits; `y` [tokens, 2 * n_used]: the chosen experts, then their shares of the softmax
/// over all experts or, with `renormalise`, over the chosen ones.
pub(super) fn moe_route(pool: &Pool, x: &[f32], n_expert: usize, n_used: usize, renormalise: bool, y: &mut [f32]) {
    pool.tiles(y, 2 * n_used, (GRAIN.div_ceil(n_expert), 2 * n_used), |mut tile, _| {
        for t in tile.rows.clone() {
            let logits = &x[t * n_expert..][..n_expert];
            let (experts, shares) = tile.row(t).split_at_mut(n_used);
            choose(logits, experts);
            let top = logits[experts[0] as usize];
            shares.iter_mut().zip(experts).for_each(|(s, e)| *s = (logits[*e as usize] - top).exp());
            let sum: f32 = if renormalise { shares.iter().sum() } else { logits.iter().map(|l| (l - top).exp()).sum() };
            shares.iter_mut().for_each(|s| *s /= sum);
        }
    });
}

/// The numbers of the largest logits, the largest first. The lower number wins a tie. If the router gives NaN, some
/// experts are still chosen.
fn choose(logits: &[f32], best: &mut [f32]) {
    let n = best.len();
    for (e, &logit) in logits.iter().enumerate() {
        if e < n || logit > logits[best[n - 1] as usize] {
            let mut at = e.min(n - 1);
            while at > 0 && logit > logits[best[at - 1] as usize] {
                best[at] = best[at - 1];
                at -= 1;
            }
            best[at] = e as f32;
        }
    }
}

/// Sorts the rows [tokens * n_used] of products with experts by expert.
pub(super) fn by_expert(route: &[f32], n_used: usize, n_expert: usize, groups: &mut Groups) {
    groups.sort(n_expert, route.chunks_exact(2 * n_used).flat_map(|r| &r[..n_used]).map(|e| *e as usize));
}

/// `x` [tokens, n_used * cols], `y` [tokens, cols].
pub(super) fn moe_sum(pool: &Pool, isa: Isa, x: &[f32], (route, n_used): (&[f32], usize), y: &mut [f32], cols: usize) {
    each_row(
        pool,
        isa,
        y,
        cols,
        #[inline(always)]
        |t, y| {
            y.fill(0.0);
            let shares = &route[t * 2 * n_used..][n_used..];
            for (x, share) in x[t * n_used * cols..].chunks_exact(cols).zip(&shares[..n_used]) {
                y.iter_mut().zip(x).for_each(|(y, x)| *y += x * share);
            }
        },
    );
}
