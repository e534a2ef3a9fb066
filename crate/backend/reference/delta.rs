//! The gated delta net: causal convolution and delta rule, one token after another.

use std::ops::Range;

use super::ops::{Run, activate, sigmoid};
use crate::error::Result;
use crate::graph::{Act, Op, ValueId, WeightId};

impl Run<'_> {
    /// `state`: the inputs before these rows, `[taps - 1, cols]`, oldest first.
    pub(super) fn ssm_conv(
        &self,
        x: ValueId,
        w: WeightId,
        rows: Range<usize>,
        state: &mut Vec<f64>,
    ) -> Result<Vec<f64>> {
        let cols = self.cols(x);
        let taps = (0..cols).map(|c| self.row(w, c)).collect::<Result<Vec<_>>>()?;
        let mut y = Vec::new();
        for x in self.value(x)[rows.start * cols..rows.end * cols].chunks_exact(cols) {
            state.extend_from_slice(x);
            y.extend((0..cols).map(|c| {
                let sum = taps[c].iter().enumerate().map(|(j, w)| w * state[j * cols + c]).sum();
                activate(Act::Silu, sum)
            }));
            state.drain(..cols);
        }
        Ok(y)
    }

    /// `state`: a matrix M `[key, value]` for each value head.
    pub(super) fn delta_rule(&self, op: &Op, rows: Range<usize>, state: &mut [f64]) -> Result<Vec<f64>> {
        let &Op::DeltaRule { q, k, v, alpha, beta, a, dt, delta, .. } = op else {
            unreachable!("called for delta_rule")
        };
        let (n_k, n_v, d) = (delta.n_k_head, delta.n_v_head, delta.d_head);
        let (a, dt) = (self.row(a, 0)?, self.row(dt, 0)?);
        let mut y = Vec::new();
        for t in rows {
            for (h, m) in state.chunks_exact_mut(d * d).enumerate() {
                let head = |x: ValueId, n: usize, h: usize| &self.value(x)[(t * n + h) * d..][..d];
                let (q, k, v) = (head(q, n_k, h % n_k), head(k, n_k, h % n_k), head(v, n_v, h));
                let alpha = self.value(alpha)[t * n_v + h];
                let beta = sigmoid(self.value(beta)[t * n_v + h]);
                let decay = (a[h] * softplus(alpha + dt[h])).exp();
                m.iter_mut().for_each(|m| *m *= decay);
                for j in 0..d {
                    let seen: f64 = (0..d).map(|i| m[i * d + j] * k[i]).sum();
                    let change = (v[j] - seen) * beta;
                    (0..d).for_each(|i| m[i * d + j] += k[i] * change);
                }
                y.extend((0..d).map(|j| (0..d).map(|i| m[i * d + j] * q[i]).sum::<f64>()));
            }
        }
        Ok(y)
    }
}

/// ln(1 + e^x), without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
