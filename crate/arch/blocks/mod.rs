//! Blocks that architectures share. What only one of them needs stays in its own file.

mod attention;
mod decoder;
mod delta;
mod encoder;
mod ffn;
mod layer;
mod moe;
mod mtp;

pub(super) use attention::{AttnSpec, attention};
pub(super) use decoder::{DecoderSpec, decoder};
pub(super) use delta::{DeltaSpec, delta_net};
pub(super) use encoder::{EncoderSpec, encoder_layer, layer_norm, linear};
pub(super) use ffn::ffn;
pub(super) use layer::{Ffn, LayerSpec, Mixer};
pub(super) use moe::{MoeSpec, moe};
