//! The parts that architectures share. What one of them alone needs stays in its own file.

mod attention;
mod decoder;
mod ffn;

pub use attention::{AttnSpec, attention};
pub use decoder::{DecoderSpec, LayerSpec, decoder};
pub use ffn::ffn;
