//! Multi-token prediction, <https://arxiv.org/abs/2404.19737> in the form of <https://arxiv.org/abs/2412.19437>: one more
//! layer that says, from the trunk's result for a token and the token after it, which token comes after that. Fed its own
//! result and that token, it says the next one.

use super::layer::{LayerSpec, layer, norm};
use crate::arch::{Config, ModelBuilder};
use crate::graph::{StateId, ValueId, WeightId};

/// The block after the last layer, up to its logits: `layer(eh_proj(enorm(embed(t[j + 1])), hnorm(h[j])))`, normed, through
/// the output matrix. `hidden` holds the trunk's normed result h; embedding and output matrix are the trunk's where the
/// block has none of its own.
pub(super) fn mtp(
    d: &mut ModelBuilder<'_>,
    c: &Config,
    hidden: StateId,
    (token_embd, output): (WeightId, WeightId),
    spec: &LayerSpec,
) -> ValueId {
    let i = c.n_layer;
    let name = |part: &str| format!("blk.{i}.nextn.{part}");
    let mut own = |part: &str, of_trunk| {
        let name = name(&format!("{part}.weight"));
        if d.has(&name) { d.matrix(&name, c.d_model, c.n_vocab) } else { of_trunk }
    };
    let (embd, head) = (own("embed_tokens", token_embd), own("shared_head_head", output));
    let e = d.g.embed(embd, 1.0);
    let e = norm(d, c, &name("enorm"), e);
    let h = d.g.kv_load(hidden);
    let h = norm(d, c, &name("hnorm"), h);
    let w = d.matrix(&name("eh_proj.weight"), 2 * c.d_model, c.d_model);
    let x = d.g.concat(e, h);
    let x = d.g.matmul(w, x);
    d.g.name(x, "mtp.fused");
    let x = layer(d, c, i, x, spec);
    let x = d.g.last_rows(x);
    let x = norm(d, c, &name("shared_head_norm"), x);
    d.g.name(x, "mtp.norm");
    let logits = d.g.matmul(head, x);
    // The next token's row, until the trunk has run it: normed, as the trunk's is.
    d.g.kv_store_next(x, hidden);
    logits
}
