//! Mixture of experts.

use super::ops::Run;
use crate::error::Result;
use crate::graph::{ValueId, WeightId};

impl Run<'_> {
    pub(super) fn moe_route(&self, x: ValueId, n_used: usize, renormalise: bool) -> Vec<f64> {
        let mut y = Vec::new();
        for logits in self.value(x).chunks_exact(self.cols(x)) {
            let mut best: Vec<usize> = (0..logits.len()).collect();
            best.sort_by(|&a, &b| logits[b].total_cmp(&logits[a])); // stable: the lower number wins a tie
            best.truncate(n_used);
            let top = logits[best[0]];
            let shares: Vec<f64> = best.iter().map(|&e| (logits[e] - top).exp()).collect();
            // The softmax's own sum cancels when the shares are divided by theirs.
            let sum: f64 = if renormalise { shares.iter().sum() } else { logits.iter().map(|l| (l - top).exp()).sum() };
            y.extend(best.iter().map(|&e| e as f64));
            y.extend(shares.iter().map(|s| s / sum));
        }
        y
    }

    pub(super) fn moe_matmul(&self, w: WeightId, x: ValueId, route: ValueId, n_expert: usize) -> Result<Vec<f64>> {
        let (n_used, k, n) = (self.cols(route) / 2, self.g.weight(w).cols, self.g.weight(w).rows / n_expert);
        let own_rows = self.cols(x) != k;
        let mut y = Vec::new();
        let rows = self.activations(w, x);
        for (route, x) in self.value(route).chunks_exact(2 * n_used).zip(rows.chunks_exact(self.cols(x))) {
            for (i, &expert) in route[..n_used].iter().enumerate() {
                let x = if own_rows { &x[i * k..(i + 1) * k] } else { x };
                for r in 0..n {
                    let row = self.row(w, expert as usize * n + r)?;
                    y.push(row.iter().zip(x).map(|(w, x)| w * x).sum());
                }
            }
        }
        Ok(y)
    }

    pub(super) fn moe_sum(&self, x: ValueId, route: ValueId) -> Vec<f64> {
        let n_used = self.cols(route) / 2;
        let n = self.cols(x) / n_used;
        let mut y = Vec::new();
        for (route, x) in self.value(route).chunks_exact(2 * n_used).zip(self.value(x).chunks_exact(self.cols(x))) {
            let shares = &route[n_used..];
            y.extend((0..n).map(|c| shares.iter().enumerate().map(|(i, s)| s * x[i * n + c]).sum::<f64>()));
        }
        y
    }
}
