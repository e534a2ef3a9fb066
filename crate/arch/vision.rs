//! The part of a model that sees, which is in a file of its own: `general.architecture = clip`, and `clip.projector_type`
//! says which one it is. It makes rows of an image that take the place of embeddings in the language model.
//!
//! `qwen3vl_merger` (Qwen3-VL, Qwen3.5): patches, with positions of a square grid that is stretched over the image, go
//! through an encoder with rotation by row and column. Each square of `spatial_merge_size` patches a side becomes one row.
//! Where `is_deepstack_layers` says so, a row has the merged result of these layers too, one after another: the language
//! model adds them to its first layers.
//!
//! Tensors: `v.patch_embd.{weight,weight.1,bias}, v.position_embd.weight`; of layer i, all with bias, `v.blk.i.{ln1,
//! attn_qkv, attn_out, ln2, ffn_up, ffn_down}`, and `v.deepstack.i.{norm, fc1, fc2}`; `v.post_ln, mm.0, mm.2`.
//!
//! `gemma3` (Gemma 3): SigLIP (<https://arxiv.org/abs/2303.15343>). Each image is a square of one size, and each of its patches
//! has a position of its own. The mean of a square of patches, normed and multiplied by a matrix, is a row.
//!
//! Tensors: as above with `v.blk.i.{attn_q, attn_k, attn_v}`, and `mm.soft_emb_norm.weight` with its 1 added. A row of
//! `mm.input_projection.weight` is for a column of the encoder, so that the file has it the other way around.

use super::blocks::{EncoderSpec, encoder_layer, layer_norm, linear};
use super::{ModelBuilder, Wanted, known};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;
use crate::graph::{Act, Attention, Graph, Rope, RopeAxes, RopePairs, StateId, ValueId};

/// The architecture of such files.
const CLIP: &str = "clip";

/// How many rows of the grid of positions a patch lies between.
pub const CORNERS: usize = 4;

/// What an image is cut into, and what the rows that come out are like.
#[derive(Clone, Debug, PartialEq)]
pub struct Vision {
    /// Pixels along a side of a patch.
    pub patch: usize,
    /// Patches along a side of the square that makes one row.
    pub merge: usize,
    /// Positions along a side of the learned grid.
    pub side: usize,
    /// Subtracted from red, green and blue, which are 0 to 1.
    pub mean: [f32; 3],
    /// What they are divided by then.
    pub std: [f32; 3],
    /// The fewest and the most pixels of an image, where the file says it.
    pub pixels: [Option<usize>; 2],
    /// Where each image is made a square of one size: pixels along a side. Its rows follow each other like text.
    pub square: Option<usize>,
    /// Columns of an embedding of the language model.
    pub d_model: usize,
    /// Layers whose results follow in a row.
    pub n_deepstack: usize,
}

impl Vision {
    /// Values that a step gives for a patch: its pixels by channel, row and column; then the positions around it, as row numbers
    /// of the grid, and their shares.
    pub fn patch_columns(&self) -> usize {
        3 * self.patch * self.patch + 2 * CORNERS
    }

    /// Columns of a row that comes out.
    pub fn columns(&self) -> usize {
        self.d_model * (1 + self.n_deepstack)
    }
}

/// Builds the graph of such a file, whose steps have a token for each patch and an output for each merged square. Everything
/// that can be wrong with its configuration is found here.
pub fn vision(gguf: &Gguf, supports: &dyn Fn(DType) -> bool, allow_unknown: bool) -> Result<(Graph, Vision)> {
    gguf.check_whole()?;
    let arch = gguf.meta.architecture()?;
    if arch != CLIP {
        let arch = known::clipped(arch);
        crate::bail!(
            UnsupportedArchitecture,
            "`{arch}` is no model that sees images; give a file whose architecture is `{CLIP}` (often named mmproj)"
        );
    }
    let mut d = ModelBuilder::new(gguf, Wanted { allow_unknown, ..Wanted::default() })?;
    let projector = d.keys.string("projector_type")?.or(d.keys.string("vision.projector_type")?);
    let built = match projector {
        Some("qwen3vl_merger") => qwen3vl(&mut d)?,
        Some("gemma3") => gemma3(&mut d)?,
        other => {
            let other = known::clipped(other.unwrap_or_default()).into_owned();
            let detail = format!("unsupported projector `{other}`; expected `qwen3vl_merger` or `gemma3`");
            return Err(Error::new(ErrorKind::UnsupportedArchitecture, detail).at("key `clip.projector_type`"));
        }
    };
    d.check(supports, allow_unknown)?;
    Ok(built)
}

impl Vision {
    /// Reads what all of them have. Squares of `merge` by `merge` patches make a row.
    fn read(d: &ModelBuilder<'_>, merge: usize) -> Result<Self> {
        let keys = &d.keys;
        let (patch, image) = (keys.size("vision.patch_size")?, keys.size("vision.image_size")?);
        // Far above any model, and small enough for what a step gives.
        if patch > 64 || merge > 8 || image % patch != 0 || image / patch > 4096 {
            crate::bail!(
                BadConfig,
                "patches of {patch} pixels (at most 64), merged by {merge} (at most 8), do not fit images of {image} pixels"
            );
        }
        let vision = Vision {
            patch,
            merge,
            side: image / patch,
            mean: keys.floats("vision.image_mean")?,
            std: keys.floats("vision.image_std")?,
            pixels: [None; 2],
            square: None,
            d_model: keys.size("vision.projection_dim")?,
            n_deepstack: 0,
        };
        if vision.std.contains(&0.0) {
            return Err(keys.bad("vision.image_std", "must not be 0".to_string()));
        }
        Ok(vision)
    }
}

fn qwen3vl(d: &mut ModelBuilder<'_>) -> Result<(Graph, Vision)> {
    let (mut spec, n_layer) = encoder(d)?;
    let keys = &d.keys;
    let merge = keys.size("vision.spatial_merge_size")?;
    let (d_head, axes) = (spec.attn.d_head, RopeAxes::Grid { square: merge });
    spec.rope =
        Some(Rope { d_head, n_rot: d_head, pairs: RopePairs::Halves, axes, base: 1e4, scale: 1.0, freqs: None });
    let deepstack = keys.flags("vision.is_deepstack_layers", n_layer)?.unwrap_or_default();
    let deepstack: Vec<usize> = (0..n_layer).filter(|i| deepstack.get(*i) == Some(&true)).collect();
    let pixels = [keys.opt_size("vision.image_min_pixels")?, keys.opt_size("vision.image_max_pixels")?];
    let vision = Vision { pixels, n_deepstack: deepstack.len(), ..Vision::read(d, merge)? };
    // The convolution that makes rows of patches spans two frames; a still image is both.
    let mut x = embed(d, &spec, &vision, &["v.patch_embd.weight", "v.patch_embd.weight.1"]);
    let states = states(d, &spec);
    let mut merged = Vec::new();
    let (d_in, d_out) = (spec.d_model * merge * merge, vision.d_model);
    for i in 0..n_layer {
        x = encoder_layer(d, i, x, states, &spec);
        if deepstack.contains(&i) {
            let name = |part: &str| format!("v.deepstack.{i}.{part}");
            let y = d.g.group(x, merge * merge);
            let y = layer_norm(d, &name("norm"), d_in, spec.eps, y);
            merged.push(merger(d, [&name("fc1"), &name("fc2")], (d_in, d_out), y));
        }
    }
    let y = layer_norm(d, "v.post_ln", spec.d_model, spec.eps, x);
    let y = d.g.group(y, merge * merge);
    let y = merger(d, ["mm.0", "mm.2"], (d_in, d_out), y);
    let rows = merged.into_iter().fold(y, |all, y| d.g.concat(all, y));
    Ok((d.finish(rows), vision))
}

fn gemma3(d: &mut ModelBuilder<'_>) -> Result<(Graph, Vision)> {
    let (spec, n_layer) = encoder(d)?;
    let merge = d.keys.opt_size("vision.projector.scale_factor")?.unwrap_or(4);
    let vision = Vision::read(d, merge)?;
    let (square, d_in) = (vision.side * vision.patch, spec.d_model);
    if vision.side % merge != 0 {
        let side = vision.side;
        crate::bail!(BadConfig, "{side} patches along a side of an image are no whole squares of {merge} by {merge}");
    }
    let mut x = embed(d, &spec, &vision, &["v.patch_embd.weight"]);
    let states = states(d, &spec);
    for i in 0..n_layer {
        x = encoder_layer(d, i, x, states, &spec);
    }
    let x = layer_norm(d, "v.post_ln", d_in, spec.eps, x);
    let n = merge * merge;
    let patches = d.g.group(x, n);
    let part = |d: &mut ModelBuilder<'_>, i| d.g.slice(patches, n * d_in, i * d_in, d_in);
    let first = part(d, 0);
    let sum = (1..n).fold(first, |sum, i| {
        let next = part(d, i);
        d.g.add(sum, next)
    });
    // The norm of n times the mean is that of the mean, with an epsilon that is n^2 as large.
    let w = d.vector("mm.soft_emb_norm.weight", d_in);
    let rows = d.g.rms_norm(sum, w, spec.eps * (n * n) as f32);
    let w = d.matrix("mm.input_projection.weight", vision.d_model, d_in);
    let rows = d.g.blend_all(w, rows);
    Ok((d.finish(rows), Vision { square: Some(square), ..vision }))
}

/// Keys and values: of one layer at a time.
fn states(d: &mut ModelBuilder<'_>, spec: &EncoderSpec) -> [StateId; 2] {
    ["k", "v"].map(|name| d.g.state(&format!("v.{name}"), spec.d_model))
}

/// The sizes of the encoder, which does not rotate heads, and how many layers it has.
fn encoder(d: &ModelBuilder<'_>) -> Result<(EncoderSpec, usize)> {
    let keys = &d.keys;
    if keys.bool("use_gelu")? != Some(true) || keys.bool("has_vision_encoder")? == Some(false) {
        return Err(keys.bad("use_gelu", "must be true, as must `clip.has_vision_encoder`".to_string()));
    }
    let (d_model, n_head) = (keys.size("vision.embedding_length")?, keys.size("vision.attention.head_count")?);
    if d_model % (4 * n_head) != 0 {
        let detail = format!("must divide embedding_length {d_model} into heads of a multiple of 4, is {n_head}");
        return Err(keys.bad("vision.attention.head_count", detail));
    }
    let n_layer = keys.size("vision.block_count")?;
    let tensors = d.gguf.tensors.len();
    if n_layer > tensors {
        return Err(keys.bad("vision.block_count", format!("is {n_layer}, but the file has only {tensors} tensors")));
    }
    let d_head = d_model / n_head;
    let attn = Attention {
        n_head,
        n_kv_head: n_head,
        d_head,
        scale: 1.0 / (d_head as f32).sqrt(),
        causal: false,
        window: None,
        softcap: None,
    };
    let spec = EncoderSpec {
        d_model,
        d_ff: keys.size("vision.feed_forward_length")?,
        act: Act::GeluTanh,
        rope: None,
        attn,
        eps: keys.required_float("vision.attention.layer_norm_epsilon")?,
    };
    Ok((spec, n_layer))
}

/// Patches and their positions. The results of several matrices are added.
fn embed(d: &mut ModelBuilder<'_>, spec: &EncoderSpec, v: &Vision, frames: &[&str]) -> ValueId {
    let frames: Vec<_> = frames.iter().map(|name| d.patches(name, v.patch, spec.d_model)).collect();
    let b = d.vector("v.patch_embd.bias", spec.d_model);
    let positions = d.vectors("v.position_embd.weight", spec.d_model, v.side * v.side);
    let pixels = 3 * v.patch * v.patch;
    let x = d.g.given(0, pixels);
    let first = d.g.matmul(frames[0], x);
    let x = frames[1..].iter().fold(first, |sum, w| {
        let next = d.g.matmul(*w, x);
        d.g.add(sum, next)
    });
    let x = d.g.add_bias(x, b);
    d.g.name(x, "patch_embd");
    let corners = d.g.given(pixels, 2 * CORNERS);
    let positions = d.g.blend(positions, corners);
    let x = d.g.add(x, positions);
    d.g.name(x, "embd");
    x
}

fn merger(d: &mut ModelBuilder<'_>, [up, down]: [&str; 2], (d_in, d_out): (usize, usize), x: ValueId) -> ValueId {
    let y = linear(d, up, d_in, d_in, x);
    let y = d.g.activate(y, Act::Gelu);
    linear(d, down, d_in, d_out, y)
}
