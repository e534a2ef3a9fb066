//! Fixtures of models that see. No vision tower runs here, but what such a model says before the first image is about text
//! alone: those rows are compared.

use std::path::Path;

use pagelm::engine::Options;
use pagelm::{ErrorKind, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fixture::{Array, Prompt, largest_difference};
use super::{Args, Outcome, malformed};
use crate::model::{self, Purpose};

#[derive(Deserialize)]
pub struct Images {
    /// The text model, beside the file.
    gguf: String,
    image_token_id: u32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    ids: Vec<u32>,
    logits_all: Array,
}

/// What becomes of an image of some size.
#[derive(Deserialize)]
pub struct Size {
    #[serde(rename = "height")]
    _height: u32,
    #[serde(rename = "width")]
    _width: u32,
    #[serde(rename = "resized")]
    _resized: [u32; 2],
}

/// A table of image sizes has nothing to compare with.
pub fn sizes() -> Outcome {
    let why = "sizes of images: nothing here resizes images".to_string();
    Outcome { json: Value::Null, ok: true, skipped: vec![why] }
}

pub fn run(args: &Args, path: &Path, images: &Images, json: bool) -> Result<Outcome> {
    let texts = (images.cases.iter()).map(|c| before_image(path, images, c)).collect::<Result<Vec<_>>>()?;
    let mut skipped = vec![format!("the images of {} cases: no vision tower runs here", texts.len())];
    let longest = texts.iter().map(|t| t.ids.len()).max();
    let Some(longest) = longest else { return Err(malformed(path, "expected at least one case")) };
    let options = args.device.options();
    let options = Options { n_ctx: Some(longest), max_outputs: options.max_tokens, ..options };
    let mut session = match model::open(&path.with_file_name(&images.gguf), &args.device, options, Purpose::Compare) {
        Ok(opened) => opened.session,
        Err(e) if e.kind() == ErrorKind::UnsupportedArchitecture => {
            skipped.push(format!("the text before the images: {}", e.detail()));
            return Ok(Outcome { json: Value::Null, ok: true, skipped });
        }
        Err(e) => return Err(e),
    };
    let tol = args.tolerance(session.backend().name());
    let (mut rows, mut ok) = (Vec::new(), true);
    for (i, text) in texts.iter().take(args.prompts).enumerate() {
        let (diff, n) = (largest_difference(&mut session, text)?, text.ids.len());
        let agrees = diff <= tol;
        ok &= agrees;
        if !json {
            let miss = if agrees { "" } else { "  MISS" };
            println!("  case {i}, the {n} tokens before its image  logits within {diff:.2e} ({tol:.0e}){miss}");
        }
        rows.push(json!({ "tokens": n, "max_abs_logit_diff": diff, "ok": agrees }));
    }
    let json = json!({ "backend": session.backend().name(), "tol": tol, "texts": rows });
    Ok(Outcome { json, ok, skipped })
}

/// The tokens before the first of an image, with their logits.
fn before_image(path: &Path, images: &Images, case: &Case) -> Result<Prompt> {
    let all = case.logits_all.rows(case.ids.len()).filter(|cols| *cols > 0);
    let n = case.ids.iter().position(|id| *id == images.image_token_id);
    let (Some(cols), Some(n @ 1..)) = (all, n) else {
        return Err(malformed(path, "a case must have a row of logits for each token, and an image after its first"));
    };
    Ok(Prompt::of_rows(&case.ids[..n], &case.logits_all.data[..n * cols], cols))
}
