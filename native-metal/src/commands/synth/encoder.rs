//! The shapes of encoders of images, with few of their layers.

use pagelm::DType;

use super::{Key, Tensor};

/// The sizes of an encoder.
pub struct Encoder {
    projector: &'static str,
    n_layer: usize,
    d_model: usize,
    d_ff: usize,
    n_head: usize,
    /// Pixels along a side of a patch, and of the image that has the positions of the file.
    patch: usize,
    image: usize,
    /// Columns of an embedding of the language model.
    width: usize,
}

impl Encoder {
    /// One layer of the 27 of Gemma 3's.
    pub fn gemma3(width: Option<usize>) -> Self {
        let (d_model, d_ff, n_head, patch, image) = (1152, 4304, 16, 14, 896);
        let width = width.unwrap_or(2560);
        Self { projector: "gemma3", n_layer: 1, d_model, d_ff, n_head, patch, image, width }
    }

    /// Two layers of the 24 of Qwen3-VL 2B's, and the results of both for the first layers of the language model.
    pub fn qwen3vl(width: Option<usize>) -> Self {
        let (d_model, d_ff, n_head, patch, image) = (1024, 4096, 16, 16, 768);
        let width = width.unwrap_or(2048);
        Self { projector: "qwen3vl_merger", n_layer: 2, d_model, d_ff, n_head, patch, image, width }
    }

    fn is_gemma(&self) -> bool {
        self.projector == "gemma3"
    }

    pub fn keys(&self) -> Vec<(String, Key)> {
        let mut all = vec![
            ("clip.has_vision_encoder", Key::B(true)),
            ("clip.projector_type", Key::S(self.projector)),
            ("clip.use_gelu", Key::B(true)),
            ("clip.vision.projection_dim", Key::U(self.width)),
            ("clip.vision.image_size", Key::U(self.image)),
            ("clip.vision.patch_size", Key::U(self.patch)),
            ("clip.vision.embedding_length", Key::U(self.d_model)),
            ("clip.vision.feed_forward_length", Key::U(self.d_ff)),
            ("clip.vision.block_count", Key::U(self.n_layer)),
            ("clip.vision.attention.head_count", Key::U(self.n_head)),
            ("clip.vision.attention.layer_norm_epsilon", Key::F(1e-6)),
            ("clip.vision.image_mean", Key::Fs(&[0.5; 3])),
            ("clip.vision.image_std", Key::Fs(&[0.5; 3])),
        ];
        if !self.is_gemma() {
            all.push(("clip.vision.spatial_merge_size", Key::U(2)));
            all.push(("clip.vision.is_deepstack_layers", Key::Bs(vec![true; self.n_layer])));
        }
        all.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// Every tensor, with matrices of a type.
    pub fn tensors(&self, dtype: DType) -> Vec<Tensor> {
        let &Self { d_model, d_ff, patch, width, .. } = self;
        let mut all = Vec::new();
        let vector = |name: &str, len| Tensor { name: name.to_string(), dtype: DType::F32, dims: vec![len] };
        let linear = |name: &str, d_in, d_out| {
            let weight = Tensor { name: format!("{name}.weight"), dtype, dims: vec![d_in, d_out] };
            [weight, vector(&format!("{name}.bias"), d_out)]
        };
        let norm = |name: &str, len| ["weight", "bias"].map(|part| vector(&format!("{name}.{part}"), len));
        let frames: &[&str] = if self.is_gemma() { &["weight"] } else { &["weight", "weight.1"] };
        for frame in frames {
            let dims = vec![patch, patch, 3, d_model];
            all.push(Tensor { name: format!("v.patch_embd.{frame}"), dtype: DType::F16, dims });
        }
        all.push(vector("v.patch_embd.bias", d_model));
        let positions = (self.image / patch) * (self.image / patch);
        all.push(Tensor { name: "v.position_embd.weight".into(), dtype: DType::F32, dims: vec![d_model, positions] });
        let merged = 4 * d_model;
        for i in 0..self.n_layer {
            let name = |part: &str| format!("v.blk.{i}.{part}");
            all.extend(norm(&name("ln1"), d_model));
            if self.is_gemma() {
                ["attn_q", "attn_k", "attn_v"]
                    .iter()
                    .for_each(|part| all.extend(linear(&name(part), d_model, d_model)));
            } else {
                all.extend(linear(&name("attn_qkv"), d_model, 3 * d_model));
            }
            all.extend(linear(&name("attn_out"), d_model, d_model));
            all.extend(norm(&name("ln2"), d_model));
            all.extend(linear(&name("ffn_up"), d_model, d_ff));
            all.extend(linear(&name("ffn_down"), d_ff, d_model));
            if !self.is_gemma() {
                let name = |part: &str| format!("v.deepstack.{i}.{part}");
                all.extend(norm(&name("norm"), merged));
                all.extend(linear(&name("fc1"), merged, merged));
                all.extend(linear(&name("fc2"), merged, width));
            }
        }
        all.extend(norm("v.post_ln", d_model));
        if self.is_gemma() {
            all.push(vector("mm.soft_emb_norm.weight", d_model));
            let dims = vec![width, d_model];
            all.push(Tensor { name: "mm.input_projection.weight".into(), dtype, dims });
        } else {
            all.extend(linear("mm.0", merged, merged));
            all.extend(linear("mm.2", merged, width));
        }
        all
    }
}
