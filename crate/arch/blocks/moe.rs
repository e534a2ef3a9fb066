//! Mixture of experts, <https://arxiv.org/abs/1701.06538>, with an optional shared expert.

use super::ffn::gated;
use crate::arch::keys::Keys;
use crate::arch::{Config, ModelBuilder};
use crate::error::Result;
use crate::graph::{Act, ValueId};

/// The sizes of an expert layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MoeSpec {
    pub n_expert: usize,
    /// Experts of one token.
    pub n_used: usize,
    /// Width of an expert.
    pub d_ff: usize,
    /// Width of the shared expert, where there is one.
    pub d_ff_shared: Option<usize>,
    /// The shares of a token's experts are divided by their sum.
    pub renormalise: bool,
}

impl MoeSpec {
    /// `renormalise` is what the architecture does where the file has no key for it.
    pub(crate) fn read(keys: &Keys<'_>, renormalise: bool) -> Result<Self> {
        let (n_expert, n_used) = (keys.size("expert_count")?, keys.size("expert_used_count")?);
        if n_used > n_expert {
            crate::bail!(
                BadConfig,
                "`expert_used_count` must be at most {n_expert}, the number of experts, is {n_used}"
            );
        }
        let d_ff_shared = keys.size_or_none("expert_shared_feed_forward_length")?;
        keys.neutral("expert_shared_count", &[0.0, if d_ff_shared.is_some() { 1.0 } else { 0.0 }]);
        let renormalise = keys.bool("expert_weights_norm")?.unwrap_or(renormalise);
        Ok(Self { n_expert, n_used, d_ff: keys.size("expert_feed_forward_length")?, d_ff_shared, renormalise })
    }
}

/// `sum over the chosen experts of share * down(silu(gate x) * up x)`, and the shared expert behind its own gate.
pub(crate) fn moe(d: &mut ModelBuilder<'_>, c: &Config, layer: usize, x: ValueId, spec: &MoeSpec) -> ValueId {
    let (n, d_ff) = (spec.n_expert, spec.d_ff);
    let router = d.matrix(&format!("blk.{layer}.ffn_gate_inp.weight"), c.d_model, n);
    let logits = d.g.matmul(router, x); // [tokens, n_expert]
    let route = d.g.moe_route(logits, spec.n_used, spec.renormalise);
    let gate = d.experts(&format!("blk.{layer}.ffn_gate_exps.weight"), c.d_model, d_ff, n);
    let up = d.experts(&format!("blk.{layer}.ffn_up_exps.weight"), c.d_model, d_ff, n);
    let down = d.experts(&format!("blk.{layer}.ffn_down_exps.weight"), d_ff, c.d_model, n);
    let gate = d.g.moe_matmul(gate, x, route, n); // [tokens, n_used * d_ff]
    let up = d.g.moe_matmul(up, x, route, n);
    let h = d.g.glu(gate, up, Act::Silu);
    let y = d.g.moe_matmul(down, h, route, n); // [tokens, n_used * d_model]
    let y = d.g.moe_sum(y, route);
    let Some(d_ff) = spec.d_ff_shared else { return y };
    let shared = gated(d, c, &format!("blk.{layer}"), "_shexp", d_ff, x, Act::Silu);
    let gate = d.row_or_vector(&format!("blk.{layer}.ffn_gate_inp_shexp.weight"), c.d_model);
    let gate = d.g.matmul(gate, x); // [tokens, 1]
    let shared = d.g.sigmoid_gate(shared, gate);
    d.g.add(y, shared)
}
