//! Hyper-parameters, each with its key, checked so that a description can build without further checks.

use super::ModelBuilder;
use super::keys::{Keys, MAX_SIZE};
use crate::error::Result;
use crate::graph::{Rope, RopeAxes, RopePairs};

/// The hyper-parameters that every decoder-only transformer has.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `block_count`.
    pub n_layer: usize,
    /// `context_length`: what the model was trained for.
    pub n_ctx_train: usize,
    /// `embedding_length`.
    pub d_model: usize,
    /// `feed_forward_length`; 0 where all feed-forward networks are experts and the key is absent.
    pub d_ff: usize,
    /// `attention.head_count`.
    pub n_head: usize,
    /// `attention.head_count_kv`, or `n_head` where the key is absent.
    pub n_kv_head: usize,
    /// `attention.key_length`, or `d_model / n_head` where the key is absent.
    pub d_head: usize,
    /// `rope.dimension_count`, or `d_head`.
    pub n_rot: usize,
    /// `rope.freq_base`, or 10000.
    pub rope_base: f32,
    /// The coordinates of angles: `rope.dimension_sections` where images are wanted, else the time, which text has only.
    pub rope_axes: RopeAxes,
    /// 1 / `rope.scaling.factor` (in old files `rope.scale_linear`), unless `rope.scaling.type` is `none`.
    pub rope_scale: f32,
    /// `attention.layer_norm_rms_epsilon`.
    pub eps: f32,
    /// Rows of `token_embd.weight`.
    pub n_vocab: usize,
}

impl Config {
    /// Reads and checks the keys that all architectures have; `n_vocab` comes from `token_embd.weight`.
    pub fn read(d: &ModelBuilder<'_>) -> Result<Self> {
        let (keys, gguf) = (&d.keys, d.gguf);
        let d_model = keys.size("embedding_length")?;
        let n_head = keys.size("attention.head_count")?;
        let n_kv_head = keys.opt_size("attention.head_count_kv")?.unwrap_or(n_head);
        if n_head % n_kv_head != 0 {
            return Err(keys.bad("attention.head_count_kv", format!("must divide head_count {n_head}, is {n_kv_head}")));
        }
        let d_head = match keys.opt_size("attention.key_length")? {
            Some(d) => d,
            None if d_model % n_head == 0 => d_model / n_head,
            None => {
                return Err(
                    keys.bad("attention.head_count", format!("must divide embedding_length {d_model}, is {n_head}"))
                );
            }
        };
        let v_head = keys.opt_size("attention.value_length")?.unwrap_or(d_head);
        if v_head != d_head {
            return Err(keys.bad("attention.value_length", format!("must equal the key length {d_head}, is {v_head}")));
        }
        let n_rot = keys.opt_size("rope.dimension_count")?.unwrap_or(d_head);
        if n_rot > d_head || n_rot % 2 != 0 {
            return Err(keys.bad(
                "rope.dimension_count",
                format!("must be even and at most the head length {d_head}, is {n_rot}"),
            ));
        }
        if n_head as u64 * d_head as u64 > u64::from(MAX_SIZE) {
            return Err(
                keys.bad("attention.head_count", format!("{n_head} heads of length {d_head} are more than the limit"))
            );
        }
        let n_layer = keys.size("block_count")?;
        // Every layer has tensors, so a larger count is wrong; believing it would list millions of missing ones.
        if n_layer > gguf.tensors.len() {
            let have = gguf.tensors.len();
            return Err(keys.bad("block_count", format!("is {n_layer}, but the file has only {have} tensors")));
        }
        // Keys that must agree with what is computed from others.
        keys.neutral("attention.scale", &[0.0, 1.0 / (d_head as f64).sqrt()]);
        keys.neutral("attention.key_length_swa", &[d_head as f64]);
        keys.neutral("attention.value_length_swa", &[d_head as f64]);
        keys.neutral("rope.dimension_count_swa", &[n_rot as f64]);
        keys.neutral("embedding_length_out", &[d_model as f64]);
        Ok(Self {
            n_layer,
            n_ctx_train: keys.size("context_length")?,
            d_model,
            d_ff: match keys.opt_size("feed_forward_length")? {
                None if keys.size_or_none("expert_count")?.is_some() => 0,
                None => keys.size("feed_forward_length")?,
                Some(d) => d,
            },
            n_head,
            n_kv_head,
            d_head,
            n_rot,
            rope_base: keys.positive("rope.freq_base")?.unwrap_or(10000.0),
            rope_axes: if d.images { rope_axes(keys, n_rot)? } else { RopeAxes::Time },
            rope_scale: rope_scale(keys)?,
            eps: keys.required_float("attention.layer_norm_rms_epsilon")?,
            n_vocab: gguf.tensor("token_embd.weight").map_or(0, |t| t.rows()),
        })
    }
}

impl Config {
    /// Refuses a sliding window shorter than the trained context, for architectures whose layers have full attention.
    pub fn no_window(&self, keys: &Keys<'_>) -> Result<()> {
        if keys.size_or_none("attention.sliding_window")?.is_some_and(|n| n < self.n_ctx_train) {
            keys.neutral("attention.sliding_window", &[0.0]);
        }
        Ok(())
    }

    /// Rotation of (i, i + n_rot / 2), which all but llama's converter leave as it was trained.
    pub fn rope_halves(&self) -> Rope {
        let (d_head, n_rot, axes) = (self.d_head, self.n_rot, self.rope_axes);
        let (base, scale) = (self.rope_base, self.rope_scale);
        Rope { d_head, n_rot, pairs: RopePairs::Halves, axes, base, scale, freqs: None }
    }
}

/// How many angles turn by the time, the row and the column, which are all of them.
fn rope_axes(keys: &Keys<'_>, n_rot: usize) -> Result<RopeAxes> {
    let name = "rope.dimension_sections";
    match keys.sizes(name)?.as_deref() {
        None => Ok(RopeAxes::Time),
        Some(&[time, rows, columns, 0] | &[time, rows, columns]) if time + rows + columns == n_rot as u64 / 2 => {
            Ok(RopeAxes::Interleaved { rows: rows as usize, columns: columns as usize })
        }
        Some(other) => Err(keys.bad(name, format!("must share {} angles among three axes, is {other:?}", n_rot / 2))),
    }
}

/// A factor without a type is linear. A factor of 0 stands for none.
fn rope_scale(keys: &Keys<'_>) -> Result<f32> {
    let (factor, old) = (keys.float("rope.scaling.factor")?, keys.float("rope.scale_linear")?);
    let factor = factor.or(old).filter(|f| *f != 0.0);
    match keys.string("rope.scaling.type")? {
        Some("none") => Ok(1.0),
        None | Some("linear") => Ok(1.0 / factor.unwrap_or(1.0)),
        Some(other) => {
            Err(keys.bad("rope.scaling.type", format!("unsupported scaling `{other}`; expected `none` or `linear`")))
        }
    }
}
