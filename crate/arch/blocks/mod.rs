//! Blocks that architectures share. What only one of them needs stays in its own file.

mod attention;
mod decoder;
mod delta;
mod ffn;
mod layer;
mod moe;
mod mtp;

pub use attention::{AttnSpec, attention};
pub use decoder::{DecoderSpec, decoder};
pub use delta::{DeltaSpec, delta_net};
pub use ffn::ffn;
pub use layer::{Ffn, LayerSpec, Mixer};
pub use moe::{MoeSpec, moe};
