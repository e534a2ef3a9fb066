//! Fixtures of models that see: the rows of each image, every logit of the prompt with the reference's rows in it, and the
//! greedy tokens after the image that this engine read itself.

use std::path::Path;

use pagelm::engine::{Encoder, Engine, Image, ImageRows, Options, VisionOptions};
use pagelm::image::{PixelRange, Pixels, fitted};
use pagelm::{Error, Result};
use pollster::block_on;
use serde::Deserialize;
use serde_json::json;

use super::fixture::{Array, Tokens, row_difference};
use super::{Args, Outcome, malformed};
use crate::commands::argmax;
use crate::image;
use crate::model::{self, Purpose};

/// Of the largest value of a row. In f32 and in f64 the reference is 1e-6 apart; the exp and tanh of GPUs are looser.
fn rows_tolerance(backend: &str) -> f32 {
    if backend == "webgpu" { 3e-5 } else { 5e-6 }
}

#[derive(Deserialize)]
pub struct Images {
    /// The text model and its encoder, beside the file.
    gguf: String,
    mmproj: String,
    image_token_id: u32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    image: Rgb,
    grid_thw: [usize; 3],
    image_embeds: Array,
    deepstack: Vec<Array>,
    ids: Vec<u32>,
    logits_all: Array,
    greedy: Tokens,
}

#[derive(Deserialize)]
struct Rgb {
    height: usize,
    width: usize,
    rgb_u8_hex: String,
}

/// What becomes of an image of some size.
#[derive(Deserialize)]
pub struct Size {
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
    resized: [usize; 2],
}

/// Compares a table of image sizes.
pub fn sizes(sizes: &[Size], json: bool) -> Outcome {
    let agrees = |s: &&Size| {
        let range = PixelRange { least: s.min_pixels, most: s.max_pixels };
        fitted(s.height, s.width, s.factor, range).is_ok_and(|size| size == s.resized)
    };
    let (matched, of) = (sizes.iter().filter(agrees).count(), sizes.len());
    let ok = matched == of;
    if !json {
        println!("  {matched}/{of} sizes of images{}", if ok { "" } else { "  MISS" });
    }
    Outcome { json: json!({ "matched": matched, "total": of }), ok }
}

pub fn run(args: &Args, path: &Path, images: &Images, json: bool) -> Result<Outcome> {
    let cases = &images.cases[..images.cases.len().min(args.prompts)];
    let longest = cases.iter().map(|c| c.ids.len() + c.greedy.tokens.len()).max();
    let longest = longest.ok_or_else(|| malformed(path, "expected at least one case"))?;
    let options = args.device.options();
    let options = Options { n_ctx: Some(longest), max_outputs: options.max_tokens, images: true, ..options };
    let opened = model::open(&path.with_file_name(&images.gguf), &args.device, options, Purpose::Compare)?;
    let (mut engine, beside) = (opened.session.into_engine(), opened.beside);
    // Images of fixtures are smaller than real ones.
    let options = VisionOptions { max_rows: longest, allow_unknown: args.device.allow_unknown };
    let mut encoder = image::open(&path.with_file_name(&images.mmproj), beside, &options)?;
    let tol = args.tolerance(engine.backend().name());
    let rows_tol = rows_tolerance(encoder.backend().name());
    let (mut all, mut ok) = (Vec::new(), true);
    for (i, case) in cases.iter().enumerate() {
        let bad = |what: &str| malformed(path, format!("case {i}: {what}"));
        let want = case.rows(&encoder, bad)?;
        let image = encoder.processor().process(&case.pixels(bad)?, None)?;
        let got = block_on(encoder.encode(&image))?;
        let largest = want.values.iter().fold(0f32, |m, v| m.max(v.abs()));
        let rows_diff = row_difference(&got.values, &want.values) / largest;
        // The same image by another name, so that the engine has both.
        let theirs = engine.add_image(ImageRows { digest: !want.digest, ..want })?;
        let ours = engine.add_image(got)?;
        let diff = largest_difference(&mut engine, &case.prompt(images.image_token_id, &theirs, bad)?, case, bad)?;
        let prompt = case.prompt(images.image_token_id, &ours, bad)?;
        let (matched, of) = (greedy_matches(&mut engine, &prompt, &case.greedy.tokens)?, case.greedy.tokens.len());
        let agrees = rows_diff <= rows_tol && diff <= tol && matched == of;
        ok &= agrees;
        if !json {
            let (n, miss) = (case.ids.len(), if agrees { "" } else { "  MISS" });
            println!(
                "  case {i} ({n:>3} tokens)  rows of the image within {rows_diff:.2e} ({rows_tol:.0e})  logits within \
                 {diff:.2e} ({tol:.0e})  greedy {matched}/{of}{miss}"
            );
        }
        all.push(json!({
            "tokens": case.ids.len(),
            "max_rel_row_diff": rows_diff,
            "max_abs_logit_diff": diff,
            "greedy_matched": matched,
            "greedy_total": of,
            "ok": agrees,
        }));
    }
    let json = json!({ "backend": engine.backend().name(), "tol": tol, "rows_tol": rows_tol, "cases": all });
    Ok(Outcome { json, ok })
}

impl Case {
    fn pixels(&self, bad: impl Fn(&str) -> Error) -> Result<Pixels<'static>> {
        let Rgb { height, width, rgb_u8_hex: hex } = &self.image;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let rgb: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
        let rgb = rgb.ok_or_else(|| bad("`rgb_u8_hex` must be hexadecimal"))?;
        let rgba: Vec<u8> = rgb.chunks(3).flat_map(|c| c.iter().copied().chain([255])).collect();
        Pixels::new(*width, *height, rgba)
    }

    /// The rows of the reference.
    fn rows(&self, encoder: &Encoder, bad: impl Fn(&str) -> Error) -> Result<ImageRows> {
        let merge = encoder.vision().merge;
        let [_, height, width] = self.grid_thw.map(|n| n / merge);
        let parts: Vec<_> = [&self.image_embeds].into_iter().chain(&self.deepstack).collect();
        let d = encoder.vision().d_model;
        if height * width == 0 || parts.iter().any(|part| part.rows(height * width) != Some(d)) {
            return Err(bad(&format!("must have {height} x {width} rows of {d} values")));
        }
        let row = |r: usize| parts.iter().flat_map(move |part| &part.data[r * d..(r + 1) * d]);
        let values = (0..height * width).flat_map(row).copied().collect();
        // Where images are squares, rows are read like text.
        let [width, height] = if encoder.vision().square.is_some() { [0, width * height] } else { [width, height] };
        Ok(ImageRows { digest: self.pixels(bad)?.digest(), width, height, values })
    }

    /// The prompt with the tokens of an image in place of the placeholders.
    fn prompt(&self, placeholder: u32, image: &Image, bad: impl Fn(&str) -> Error) -> Result<Vec<u32>> {
        let mut rows = image.tokens().iter();
        let id = |id: &u32| if *id == placeholder { rows.next().copied() } else { Some(*id) };
        let prompt: Option<Vec<u32>> = self.ids.iter().map(id).collect();
        prompt.filter(|_| rows.next().is_none()).ok_or_else(|| bad("must have a placeholder for each row of its image"))
    }
}

/// Over the logits after each token.
fn largest_difference(engine: &mut Engine, prompt: &[u32], case: &Case, bad: impl Fn(&str) -> Error) -> Result<f32> {
    let cols = case.logits_all.rows(prompt.len()).filter(|cols| *cols == engine.n_vocab());
    let cols = cols.ok_or_else(|| bad("must have a row of logits for each token"))?;
    let mut wanted = case.logits_all.data.chunks_exact(cols);
    let mut diff = 0f32;
    let mut sequence = engine.sequence();
    block_on(engine.prefill_all(&mut sequence, prompt, |row| {
        diff = diff.max(wanted.next().map_or(f32::INFINITY, |want| row_difference(row, want)));
    }))?;
    Ok(diff)
}

/// How many tokens agree before the first that does not.
fn greedy_matches(engine: &mut Engine, prompt: &[u32], greedy: &[u32]) -> Result<usize> {
    let mut sequence = engine.sequence();
    let mut next = argmax(block_on(engine.prefill(&mut sequence, prompt))?);
    for (i, &want) in greedy.iter().enumerate() {
        if next != want {
            return Ok(i);
        }
        next = argmax(block_on(engine.prefill(&mut sequence, &[next]))?);
    }
    Ok(greedy.len())
}
