//! The gated delta net. States are updated in place, token by token.

use super::lanes::Isa;
use super::math;
use crate::graph::{Act, Delta};

/// `y` and `x` [tokens, cols], `taps` [cols, n_conv]; `state` [n_conv - 1, cols] holds the previous inputs, oldest
/// first.
pub(super) fn ssm_conv(isa: Isa, x: &[f32], taps: &[f32], state: &mut [f32], y: &mut [f32]) {
    let cols = taps.len() - state.len(); // there is one more tap than inputs in the state
    let n_past = state.len() / cols;
    let n_conv = n_past + 1;
    isa.wide(
        #[inline(always)]
        || {
            for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
                for c in 0..cols {
                    let mut sum = x[c] * taps[c * n_conv + n_past];
                    for j in 0..n_past {
                        sum += state[j * cols + c] * taps[c * n_conv + j];
                    }
                    y[c] = math::act(Act::Silu, sum);
                }
                state.copy_within(cols.., 0);
                state[(n_past - 1) * cols..].copy_from_slice(x);
            }
        },
    );
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

/// `y` [tokens, n_v_head * d]; `state` [n_v_head, key, value].
pub(super) fn delta_rule(isa: Isa, rule: &Rule<'_>, state: &mut [f32], y: &mut [f32]) {
    let Delta { n_k_head, n_v_head, d_head: d } = rule.delta;
    isa.wide(
        #[inline(always)]
        || {
            for (i, y) in y.chunks_exact_mut(d).enumerate() {
                let (t, h) = (i / n_v_head, i % n_v_head);
                let of_key = (t * n_k_head + h % n_k_head) * d;
                let (q, k) = (&rule.q[of_key..][..d], &rule.k[of_key..][..d]);
                let v = &rule.v[i * d..][..d];
                let beta = 1.0 / (1.0 + (-rule.beta[i]).exp());
                let decay = (rule.a[h] * softplus(rule.alpha[i] + rule.dt[h])).exp();
                update(&mut state[h * d * d..][..d * d], q, k, v, (beta, decay), y);
            }
        },
    );
}

/// One token of one head. `y` first holds the state's prediction for k, then the change, then the result.
#[inline(always)]
fn update(m: &mut [f32], q: &[f32], k: &[f32], v: &[f32], (beta, decay): (f32, f32), y: &mut [f32]) {
    let d = y.len();
    y.fill(0.0);
    for (row, k) in m.chunks_exact_mut(d).zip(k) {
        for (m, y) in row.iter_mut().zip(&mut *y) {
            *m *= decay;
            *y += *m * k;
        }
    }
    y.iter_mut().zip(v).for_each(|(y, v)| *y = (v - *y) * beta);
    for (row, k) in m.chunks_exact_mut(d).zip(k) {
        row.iter_mut().zip(&*y).for_each(|(m, change)| *m += k * change);
    }
    y.fill(0.0);
    for (row, q) in m.chunks_exact(d).zip(q) {
        row.iter().zip(&mut *y).for_each(|(m, y)| *y += m * q);
    }
}

/// ln(1 + e^x), without overflow.
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
