//! Tiny models that make embeddings: the vector of each prompt.

use std::path::Path;

use pagelm::Result;
use pagelm::engine::{EmbedParams, Options};
use pollster::block_on;
use serde::Deserialize;
use serde_json::json;

use super::fixture::Array;
use super::{Args, Outcome, malformed};
use crate::model::{self, Purpose};

/// Vectors have a length of 1, so their values are about a tenth of a logit, and so are differences.
const OF_LOGITS: f32 = 0.1;

#[derive(Deserialize)]
pub struct Embeddings {
    /// The model, beside the file.
    gguf: String,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    embedding: Array,
}

pub fn run(args: &Args, path: &Path, numbers: &Embeddings, json: bool) -> Result<Outcome> {
    let prompts = &numbers.prompts[..numbers.prompts.len().min(args.prompts)];
    let need = prompts.iter().map(|p| p.ids.len()).max();
    let need = need.ok_or_else(|| malformed(path, "expected at least one prompt"))?;
    let options = Options { n_ctx: Some(need.max(1)), embeddings: Some(true), ..args.device.options() };
    let file = path.with_file_name(&numbers.gguf);
    let mut session = model::open(&file, &args.device, options, Purpose::Compare)?.session;
    let tol = args.tolerance(session.backend().name()) * OF_LOGITS;
    let (mut rows, mut ok) = (Vec::new(), true);
    for (i, Prompt { ids, embedding }) in prompts.iter().enumerate() {
        let vectors = block_on(session.engine().embed(&[ids], &EmbedParams::default()))?;
        let (got, want) = (&vectors[0], &embedding.data);
        if got.len() != want.len() {
            let (n, of) = (want.len(), got.len());
            return Err(malformed(path, format!("prompt {i}: the embedding has {n} values, the model's have {of}")));
        }
        let diff = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let agrees = diff <= tol;
        ok &= agrees;
        if !json {
            let (n, miss) = (ids.len(), if agrees { "" } else { "  MISS" });
            println!("  prompt {i} ({n:>3} tokens)  embedding within {diff:.2e} ({tol:.0e}){miss}");
        }
        rows.push(json!({ "tokens": ids.len(), "max_abs_diff": diff, "ok": agrees }));
    }
    let json = json!({ "backend": session.backend().name(), "tol": tol, "prompts": rows });
    Ok(Outcome { json, ok })
}
