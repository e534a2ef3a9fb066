//! Tiny models: every logit of every prompt, and the greedy tokens after it.

use std::path::Path;

use pagelm::Result;
use pagelm::engine::{Options, Session};
use pollster::block_on;
use serde::Deserialize;
use serde_json::json;

use super::{Args, Outcome};
use crate::commands::argmax;
use crate::model::{self, Purpose};

#[derive(Deserialize)]
pub struct Fixture {
    /// The model, beside the file.
    gguf: String,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    logits_last: Array,
    logits_all: Option<Array>,
    greedy: Option<Tokens>,
}

#[derive(Deserialize)]
struct Array {
    data: Vec<f32>,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

impl Prompt {
    fn greedy(&self) -> &[u32] {
        self.greedy.as_ref().map_or(&[], |g| &g.tokens)
    }
}

pub fn run(args: &Args, path: &Path, fixture: &Fixture, json: bool) -> Result<Outcome> {
    let prompts = &fixture.prompts[..fixture.prompts.len().min(args.prompts)];
    let need = prompts.iter().map(|p| p.ids.len() + p.greedy().len()).max().unwrap_or(1);
    let options = args.device.options();
    let options = Options { n_ctx: Some(need), max_outputs: options.max_tokens, ..options };
    let file = path.with_file_name(&fixture.gguf);
    let mut session = model::open(&file, &args.device, options, Purpose::Compare)?.session;
    let tol = args.tolerance(session.backend().name());
    let (mut rows, mut ok) = (Vec::new(), true);
    for (i, prompt) in prompts.iter().enumerate() {
        let diff = largest_difference(&mut session, prompt)?;
        let (matched, of) = (greedy_matches(&mut session, prompt)?, prompt.greedy().len());
        let agrees = diff <= tol && matched == of;
        ok &= agrees;
        if !json {
            let n = prompt.ids.len();
            let miss = if agrees { "" } else { "  MISS" };
            println!("  prompt {i} ({n:>3} tokens)  logits within {diff:.2e} ({tol:.0e})  greedy {matched}/{of}{miss}");
        }
        rows.push(json!({
            "tokens": prompt.ids.len(),
            "max_abs_logit_diff": diff,
            "greedy_matched": matched,
            "greedy_total": of,
            "ok": agrees,
        }));
    }
    Ok(Outcome { json: json!({ "backend": session.backend().name(), "tol": tol, "prompts": rows }), ok })
}

/// Over all rows that the fixture has. What is not finite is infinitely far off.
fn largest_difference(session: &mut Session, prompt: &Prompt) -> Result<f32> {
    let cols = prompt.logits_last.data.len();
    let mut wanted = prompt.logits_all.as_ref().map(|all| all.data.chunks_exact(cols));
    let (mut diff, mut last) = (0f32, Vec::new());
    session.rollback(0)?;
    block_on(session.prefill_all(&prompt.ids, |row| {
        if let Some(want) = wanted.as_mut().and_then(Iterator::next) {
            diff = diff.max(row_difference(row, want));
        }
        last.clear();
        last.extend_from_slice(row);
    }))?;
    Ok(diff.max(row_difference(&last, &prompt.logits_last.data)))
}

fn row_difference(got: &[f32], want: &[f32]) -> f32 {
    if got.len() != want.len() {
        return f32::INFINITY;
    }
    let off = |(a, b): (&f32, &f32)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY };
    got.iter().zip(want).map(off).fold(0.0, f32::max)
}

/// How many tokens agree before the first that does not.
fn greedy_matches(session: &mut Session, prompt: &Prompt) -> Result<usize> {
    session.rollback(0)?;
    let mut next = argmax(block_on(session.prefill(&prompt.ids))?);
    for (i, &want) in prompt.greedy().iter().enumerate() {
        if next != want {
            return Ok(i);
        }
        next = argmax(block_on(session.decode(next))?);
    }
    Ok(prompt.greedy().len())
}
