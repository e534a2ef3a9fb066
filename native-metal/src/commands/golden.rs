//! `pagelm golden`: compares a backend with reference numbers, of tiny models whose file lies beside the numbers (all
//! logits and greedy tokens), or of a real model given by `--model` (greedy tokens along the reference's).

mod fixture;
mod greedy;

use std::path::PathBuf;

use pagelm::{Error, Result};
use serde::Deserialize;
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
    /// How far a logit may be off; 3e-4 where not given, 2e-3 on a GPU.
    #[arg(long, value_name = "F")]
    tol: Option<f32>,
    /// Only the first N prompts of each file.
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    prompts: usize,
}

impl Args {
    /// Two f32 implementations are 1e-4 apart; the exp, sin and tanh of GPUs are looser.
    fn tolerance(&self, backend: &str) -> f32 {
        self.tol.unwrap_or(if backend == "webgpu" { 2e-3 } else { 3e-4 })
    }
}

/// Files of either kind.
#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    Fixture(fixture::Fixture),
    Greedy(greedy::Greedy),
}

/// The outcome for one file.
struct Outcome {
    json: Value,
    ok: bool,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let (mut files, mut ok) = (Vec::new(), true);
    for path in &args.files {
        let numbers: Numbers = read_json(path)?;
        if !json {
            println!("{}", path.display());
        }
        let outcome = match &numbers {
            Numbers::Fixture(f) => fixture::run(args, path, f, json),
            Numbers::Greedy(g) => greedy::run(args, g, json),
        };
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
