//! `pagelm golden`: compares a backend with reference numbers, of tiny models whose file lies beside the numbers (all
//! logits and greedy tokens), or of a real model given by `--model` (greedy tokens along the reference's).
//!
//! What is not a fixture is an error: nothing passes unseen.

mod embeddings;
mod fixture;
mod greedy;
mod images;

use std::path::{Path, PathBuf};

use pagelm::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::mmap::read_json;
use crate::model::DeviceArgs;
use crate::{Report, error_json};

#[derive(clap::Args)]
pub struct Args {
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// The model of files that come without one.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Largest allowed difference of a logit. Default: 3e-4, on a GPU 2e-3.
    #[arg(long, value_name = "F")]
    tol: Option<f32>,
    /// Only the first N prompts of each file.
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    prompts: usize,
    /// Of a real model, only the first N tokens after each prompt.
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    steps: usize,
}

impl Args {
    /// Two f32 implementations are 1e-4 apart; the exp, sin and tanh of GPUs are looser.
    fn tolerance(&self, backend: &str) -> f32 {
        self.tol.unwrap_or(if backend == "webgpu" { 2e-3 } else { 3e-4 })
    }
}

/// Files of every kind.
enum Numbers {
    Fixture(fixture::Fixture),
    Embeddings(embeddings::Embeddings),
    Greedy(greedy::Greedy),
    Images(images::Images),
    Sizes(Vec<images::Size>),
}

impl Numbers {
    /// Knows a file by its keys, and then holds it to its kind.
    fn read(path: &Path) -> Result<Self> {
        let value: Value = read_json(path)?;
        Ok(if value.get("mmproj").is_some() {
            Numbers::Images(parse(path, value)?)
        } else if value.pointer("/prompts/0/embedding").is_some() {
            Numbers::Embeddings(parse(path, value)?)
        } else if value.get("gguf").is_some() {
            Numbers::Fixture(parse(path, value)?)
        } else if value.get("prompts").is_some() {
            Numbers::Greedy(parse(path, value)?)
        } else if value.get(0).is_some_and(|size| size.get("resized").is_some()) {
            Numbers::Sizes(parse(path, value)?)
        } else {
            return Err(malformed(path, "expected one of the keys `gguf`, `prompts`, `mmproj`"));
        })
    }
}

fn parse<T: DeserializeOwned>(path: &Path, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| malformed(path, e))
}

/// The error for a file whose contents contradict what they should be.
fn malformed(path: &Path, what: impl std::fmt::Display) -> Error {
    let detail = format!("does not have the format that this command reads: {what}");
    Error::new(ErrorKind::InvalidArgument, detail).at(path.display())
}

/// The outcome for one file.
struct Outcome {
    json: Value,
    ok: bool,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    if args.prompts == 0 || args.steps == 0 {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "nothing to compare; --prompts and --steps must be at least 1",
        ));
    }
    let (mut files, mut ok) = (Vec::new(), true);
    for path in &args.files {
        if !json {
            println!("{}", path.display());
        }
        let outcome = Numbers::read(path).and_then(|numbers| match &numbers {
            Numbers::Fixture(f) => fixture::run(args, path, f, json),
            Numbers::Embeddings(e) => embeddings::run(args, path, e, json),
            Numbers::Greedy(g) => greedy::run(args, path, g, json),
            Numbers::Images(i) => images::run(args, path, i, json),
            Numbers::Sizes(sizes) => Ok(images::sizes(sizes, json)),
        });
        let outcome = outcome.unwrap_or_else(|e| failed(&e));
        ok &= outcome.ok;
        files.push(json!({ "file": path.display().to_string(), "ok": outcome.ok, "result": outcome.json }));
    }
    if !json {
        println!("{}", if ok { "all agree" } else { "NOT all agree" });
    }
    Ok(Report { json: json!({ "ok": ok, "files": files }), ok })
}

/// A file that cannot run is a miss; the others still run.
fn failed(e: &Error) -> Outcome {
    tracing::error!("{e}");
    Outcome { json: json!({ "error": error_json(e) }), ok: false }
}
