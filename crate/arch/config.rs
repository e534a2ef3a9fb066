//! Hyper-parameters, each with its key, checked so that a description can build without looking back.

use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Gguf, Meta};
use crate::graph::{Rope, RopePairs};

/// Far above any model, and small enough that products of two sizes do not overflow 64 bits.
const MAX_SIZE: u32 = 1 << 24;

/// What every decoder-only transformer says of itself.
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
    /// 1 / `rope.scaling.factor` where `rope.scaling.type` is `linear`, else 1.
    pub rope_scale: f32,
    /// `attention.layer_norm_rms_epsilon`.
    pub eps: f32,
    /// Rows of `token_embd.weight`.
    pub n_vocab: usize,
}

impl Config {
    pub fn read(gguf: &Gguf) -> Result<Self> {
        let meta = &gguf.meta;
        let d_model = size(meta, "embedding_length")?;
        let n_head = size(meta, "attention.head_count")?;
        let n_kv_head = opt_size(meta, "attention.head_count_kv")?.unwrap_or(n_head);
        if n_head % n_kv_head != 0 {
            return Err(bad(
                meta,
                "attention.head_count_kv",
                format!("must divide head_count {n_head}, is {n_kv_head}"),
            ));
        }
        let d_head = match opt_size(meta, "attention.key_length")? {
            Some(d) => d,
            None if d_model % n_head == 0 => d_model / n_head,
            None => {
                return Err(bad(
                    meta,
                    "attention.head_count",
                    format!("must divide embedding_length {d_model}, is {n_head}"),
                ));
            }
        };
        let v_head = opt_size(meta, "attention.value_length")?.unwrap_or(d_head);
        if v_head != d_head {
            return Err(bad(
                meta,
                "attention.value_length",
                format!("must equal the key length {d_head}, is {v_head}"),
            ));
        }
        let n_rot = opt_size(meta, "rope.dimension_count")?.unwrap_or(d_head);
        if n_rot > d_head || n_rot % 2 != 0 {
            return Err(bad(
                meta,
                "rope.dimension_count",
                format!("must be even and at most the head length {d_head}, is {n_rot}"),
            ));
        }
        if n_head as u64 * d_head as u64 > u64::from(MAX_SIZE) {
            return Err(bad(
                meta,
                "attention.head_count",
                format!("{n_head} heads of {d_head} are more than any model has"),
            ));
        }
        let n_layer = size(meta, "block_count")?;
        // Every layer has tensors, so a count above theirs is a lie; believing it would list millions of missing ones.
        if n_layer > gguf.tensors.len() {
            let have = gguf.tensors.len();
            return Err(bad(meta, "block_count", format!("is {n_layer}, but the file has only {have} tensors")));
        }
        Ok(Self {
            n_layer,
            n_ctx_train: size(meta, "context_length")?,
            d_model,
            d_ff: match opt_size(meta, "feed_forward_length")? {
                None if opt_size(meta, "expert_count")?.is_some() => 0,
                None => size(meta, "feed_forward_length")?,
                Some(d) => d,
            },
            n_head,
            n_kv_head,
            d_head,
            n_rot,
            rope_base: positive(meta, "rope.freq_base")?.unwrap_or(10000.0),
            rope_scale: rope_scale(meta)?,
            eps: match positive(meta, "attention.layer_norm_rms_epsilon")? {
                Some(eps) => eps,
                None => meta.f32(&meta.arch_key("attention.layer_norm_rms_epsilon")?)?,
            },
            n_vocab: gguf.tensor("token_embd.weight").map_or(0, |t| t.rows()),
        })
    }
}

impl Config {
    /// Rotation of (i, i + n_rot / 2), which all but llama's converter leave as it was trained.
    pub fn rope_halves(&self) -> Rope {
        let (d_head, n_rot, base, scale) = (self.d_head, self.n_rot, self.rope_base, self.rope_scale);
        Rope { d_head, n_rot, pairs: RopePairs::Halves, base, scale, freqs: None }
    }
}

fn rope_scale(meta: &Meta) -> Result<f32> {
    match meta.opt_string(&meta.arch_key("rope.scaling.type")?)? {
        None | Some("none") => Ok(1.0),
        Some("linear") => Ok(1.0 / positive(meta, "rope.scaling.factor")?.unwrap_or(1.0)),
        Some(other) => Err(bad(meta, "rope.scaling.type", format!("`{other}` is not supported; `linear` is"))),
    }
}

/// A size of the architecture: at least 1, and no more than any model could mean.
pub(super) fn size(meta: &Meta, name: &str) -> Result<usize> {
    let key = meta.arch_key(name)?;
    checked_size(meta, name, meta.u32(&key)?)
}

pub(super) fn opt_size(meta: &Meta, name: &str) -> Result<Option<usize>> {
    meta.opt_u32(&meta.arch_key(name)?)?.map(|v| checked_size(meta, name, v)).transpose()
}

fn checked_size(meta: &Meta, name: &str, v: u32) -> Result<usize> {
    if (1..=MAX_SIZE).contains(&v) {
        Ok(v as usize)
    } else {
        Err(bad(meta, name, format!("must be from 1 to {MAX_SIZE}, is {v}")))
    }
}

/// A float that must be finite and above zero where the key is there.
pub(super) fn positive(meta: &Meta, name: &str) -> Result<Option<f32>> {
    match meta.opt_f32(&meta.arch_key(name)?)? {
        Some(v) if v.is_finite() && v > 0.0 => Ok(Some(v)),
        Some(v) => Err(bad(meta, name, format!("must be above zero, is {v}"))),
        None => Ok(None),
    }
}

fn bad(meta: &Meta, name: &str, detail: String) -> Error {
    let arch = meta.architecture().unwrap_or_default();
    Error::new(ErrorKind::BadConfig, detail).at(format!("key `{arch}.{name}`"))
}
