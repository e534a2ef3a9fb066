//! What a model is: one description per architecture, over shared blocks. Names no device and reads no tensor data.

mod blocks;
mod config;
mod gemma;
mod keys;
mod known;
mod llama;
mod model_builder;
mod pooling;
mod qwen;
mod qwen35;
mod vision;

pub use config::Config;
pub use model_builder::{ModelBuilder, Wanted};
pub use pooling::Pooling;
pub use vision::{CORNERS, Vision, vision};

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;
use crate::graph::Graph;

type Description = fn(&mut ModelBuilder<'_>) -> Result<Graph>;

/// `general.architecture` and the description that goes with it.
pub const REGISTRY: &[(&str, Description)] = &[
    ("llama", llama::build),
    ("qwen2", qwen::qwen2),
    ("qwen2moe", qwen::qwen2moe),
    ("qwen3", qwen::qwen3),
    ("qwen3moe", qwen::qwen3moe),
    ("qwen3vl", qwen::qwen3vl),
    ("qwen35", qwen35::qwen35),
    ("qwen35moe", qwen35::qwen35moe),
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3", gemma::gemma3),
    ("gemma-embedding", gemma::gemma_embedding),
];

/// Builds the graph of the model in a file. Everything that can be wrong with its configuration is found here, before any
/// weight is fetched: an unknown architecture, missing keys, missing tensors (all listed), wrong shapes, matrix types that
/// the backend does not support, and unknown keys and tensors that could change the results.
pub fn build(gguf: &Gguf, supports: &dyn Fn(DType) -> bool, wanted: Wanted) -> Result<Graph> {
    gguf.check_whole()?;
    let name = gguf.meta.architecture()?;
    if name == "clip" {
        crate::bail!(
            UnsupportedArchitecture,
            "this file is the part of a model that sees images; give the file of its language model, and this one beside it"
        );
    }
    let Some((_, describe)) = REGISTRY.iter().find(|(n, _)| *n == name) else {
        let known: Vec<_> = REGISTRY.iter().map(|(n, _)| *n).collect();
        return Err(Error::new(
            ErrorKind::UnsupportedArchitecture,
            format!("unsupported architecture `{}`; expected one of {}", known::clipped(name), known.join(", ")),
        ));
    };
    let mut d = ModelBuilder::new(gguf, wanted)?;
    let graph = describe(&mut d)?;
    d.check(supports, wanted.allow_unknown)?;
    if wanted.images && graph.given.is_none() {
        crate::bail!(
            NoImages,
            "models of the architecture `{name}` read text only; use one that sees, such as qwen3vl or gemma3"
        );
    }
    Ok(graph)
}
