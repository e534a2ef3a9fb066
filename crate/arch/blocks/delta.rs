//! The gated delta net, <https://arxiv.org/abs/2412.06464>: a layer with a state of fixed size instead of a cache.

use crate::arch::keys::Keys;
use crate::arch::{Config, ModelBuilder};
use crate::error::Result;
use crate::graph::{Act, Delta, Op, ValueId};

/// The sizes of a delta-net layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaSpec {
    pub delta: Delta,
    /// Taps of the convolution.
    pub n_conv: usize,
}

impl DeltaSpec {
    pub(crate) fn read(keys: &Keys<'_>) -> Result<Self> {
        let (n_k_head, n_v_head) = (keys.size("ssm.group_count")?, keys.size("ssm.time_step_rank")?);
        let (d_head, d_inner) = (keys.size("ssm.state_size")?, keys.size("ssm.inner_size")?);
        if n_v_head % n_k_head != 0 {
            crate::bail!(
                BadConfig,
                "`ssm.time_step_rank` must be a multiple of `ssm.group_count` {n_k_head}, is {n_v_head}"
            );
        }
        if d_inner as u64 != n_v_head as u64 * d_head as u64 {
            crate::bail!(BadConfig, "`ssm.inner_size` must be {n_v_head} heads of {d_head}, is {d_inner}");
        }
        let n_conv = keys.size("ssm.conv_kernel")?;
        if n_conv < 2 {
            crate::bail!(BadConfig, "`ssm.conv_kernel` must be at least 2, is {n_conv}");
        }
        Ok(Self { delta: Delta { n_k_head, n_v_head, d_head }, n_conv })
    }
}

/// `x` is the normed input, `[tokens, d_model]`; so is the result, after the output projection.
pub(crate) fn delta_net(d: &mut ModelBuilder<'_>, c: &Config, layer: usize, x: ValueId, spec: &DeltaSpec) -> ValueId {
    let Delta { n_k_head, n_v_head, d_head } = spec.delta;
    let (d_k, d_v) = (n_k_head * d_head, n_v_head * d_head);
    let d_qkv = 2 * d_k + d_v;
    let name = |part: &str| format!("blk.{layer}.{part}");
    let w_qkv = d.matrix(&name("attn_qkv.weight"), c.d_model, d_qkv);
    let w_conv = d.vectors(&name("ssm_conv1d.weight"), spec.n_conv, d_qkv);
    let conv = d.g.recurrent_state(&name("conv"), spec.n_conv - 1, d_qkv);
    let qkv = d.g.matmul(w_qkv, x);
    let qkv = d.g.ssm_conv(qkv, w_conv, conv); // [tokens, q heads, k heads, v heads]
    let q = d.g.slice(qkv, d_qkv, 0, d_k);
    let k = d.g.slice(qkv, d_qkv, d_k, d_k);
    let v = d.g.slice(qkv, d_qkv, 2 * d_k, d_v);
    let q = d.g.l2_norm(q, d_head, 1e-6, 1.0 / (d_head as f32).sqrt());
    let k = d.g.l2_norm(k, d_head, 1e-6, 1.0);
    let w_alpha = d.matrix(&name("ssm_alpha.weight"), c.d_model, n_v_head);
    let w_beta = d.matrix(&name("ssm_beta.weight"), c.d_model, n_v_head);
    let (alpha, beta) = (d.g.matmul(w_alpha, x), d.g.matmul(w_beta, x)); // [tokens, n_v_head]
    let (a, dt) = (d.vector(&name("ssm_a"), n_v_head), d.vector(&name("ssm_dt.bias"), n_v_head));
    let state = d.g.recurrent_state(&name("delta"), d_v, d_head);
    let o = d.g.op(Op::DeltaRule { q, k, v, alpha, beta, a, dt, state, delta: spec.delta, norm: None });
    let norm = d.vector(&name("ssm_norm.weight"), d_head);
    let o = d.g.rms_norm(o, norm, c.eps);
    let w_z = d.matrix(&name("attn_gate.weight"), c.d_model, d_v);
    let z = d.g.matmul(w_z, x);
    let o = d.g.glu(z, o, Act::Silu);
    let w = d.matrix(&name("ssm_out.weight"), d_v, c.d_model);
    d.g.matmul(w, o)
}
