//! What a model is: one description per architecture, over shared blocks. Names no device and reads no tensor data.

mod blocks;
mod config;
mod describe;
mod gemma;
mod llama;
mod qwen;
mod qwen35;

pub use config::Config;
pub use describe::Describe;

use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;
use crate::graph::Graph;

type Description = fn(&mut Describe<'_>) -> Result<Graph>;

/// `general.architecture` and the description that goes with it.
pub const REGISTRY: &[(&str, Description)] = &[
    ("llama", llama::build),
    ("qwen2", qwen::qwen2),
    ("qwen3", qwen::qwen3),
    ("qwen3moe", qwen::qwen3moe),
    ("qwen3vl", qwen::qwen3),
    ("qwen35", qwen35::qwen35),
    ("qwen35moe", qwen35::qwen35moe),
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3", gemma::gemma3),
];

/// Builds the graph of the model in a file. All that can be wrong with its configuration is found here, before any
/// weight is fetched: unknown architecture, missing keys, missing tensors (all listed), wrong shapes, and matrix types
/// that the backend does not have. A block for multi-token prediction is left out.
pub fn build(gguf: &Gguf, supports: &dyn Fn(DType) -> bool) -> Result<Graph> {
    describe(gguf, supports, false)
}

/// The same with the block for multi-token prediction, where the file has one.
pub fn build_with_mtp(gguf: &Gguf, supports: &dyn Fn(DType) -> bool) -> Result<Graph> {
    describe(gguf, supports, true)
}

fn describe(gguf: &Gguf, supports: &dyn Fn(DType) -> bool, mtp: bool) -> Result<Graph> {
    let name = gguf.meta.architecture()?;
    let Some((_, describe)) = REGISTRY.iter().find(|(n, _)| *n == name) else {
        let known: Vec<_> = REGISTRY.iter().map(|(n, _)| *n).collect();
        return Err(Error::new(
            ErrorKind::UnsupportedArchitecture,
            format!("architecture `{name}` is not one of those that run here: {}", known.join(", ")),
        ));
    };
    let mut d = Describe::new(gguf, mtp);
    let graph = describe(&mut d)?;
    d.check(supports)?;
    Ok(graph)
}
