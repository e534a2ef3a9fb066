//! Tiny models: every logit of every prompt, and the greedy tokens after it.

use std::path::Path;

use pagelm::Result;
use pagelm::engine::{Options, Session};
use pollster::block_on;
use serde::Deserialize;
use serde_json::json;

use super::{Args, Outcome, malformed};
use crate::commands::argmax;
use crate::model::{self, Purpose};

#[derive(Deserialize)]
pub struct Fixture {
    /// The model, beside the file.
    gguf: String,
    prompts: Vec<Prompt>,
    /// Of models with a block for multi-token prediction.
    #[serde(default)]
    mtp: Vec<Mtp>,
}

#[derive(Deserialize)]
struct Prompt {
    ids: Vec<u32>,
    logits_last: Array,
    logits_all: Option<Array>,
    greedy: Option<Tokens>,
}

/// Row j is made from the trunk's row j and `next_ids[j]`.
#[derive(Deserialize)]
struct Mtp {
    ids: Vec<u32>,
    next_ids: Vec<u32>,
    logits_all: Array,
    argmax: Vec<u32>,
}

/// Row-major.
#[derive(Deserialize)]
pub struct Array {
    shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl Array {
    /// The length of its rows, if there are so many.
    pub fn rows(&self, n: usize) -> Option<usize> {
        let whole = self.shape.iter().product::<usize>() == self.data.len() && self.shape.first() == Some(&n);
        whole.then(|| self.data.len() / n.max(1))
    }
}

#[derive(Deserialize)]
pub struct Tokens {
    pub tokens: Vec<u32>,
}

impl Fixture {
    /// Refuses numbers that would be compared with nothing.
    fn check(&self) -> Result<(), String> {
        if self.prompts.is_empty() {
            return Err("expected at least one prompt".to_string());
        }
        for (i, p) in self.prompts.iter().enumerate() {
            let cols = p.logits_last.data.len();
            if p.ids.is_empty() || cols == 0 {
                return Err(format!("prompt {i} must have ids and logits"));
            }
            if p.logits_all.as_ref().is_some_and(|all| all.rows(p.ids.len()) != Some(cols)) {
                return Err(format!("prompt {i}: `logits_all` must have {} rows of {cols}", p.ids.len()));
            }
        }
        for (i, m) in self.mtp.iter().enumerate() {
            let n = m.ids.len();
            if n == 0 || m.next_ids.len() != n || m.argmax.len() != n || m.logits_all.rows(n).is_none() {
                return Err(format!("mtp {i}: next_ids, logits_all and argmax must have a row for each of {n} ids"));
            }
        }
        Ok(())
    }
}

impl Prompt {
    fn greedy(&self) -> &[u32] {
        self.greedy.as_ref().map_or(&[], |g| &g.tokens)
    }
}

pub fn run(args: &Args, path: &Path, fixture: &Fixture, json: bool) -> Result<Outcome> {
    fixture.check().map_err(|what| malformed(path, what))?;
    let prompts = &fixture.prompts[..fixture.prompts.len().min(args.prompts)];
    let need = prompts.iter().map(|p| p.ids.len() + p.greedy().len()).max().unwrap_or(1);
    let options = args.device.options();
    let mtp = !fixture.mtp.is_empty();
    let options = Options { n_ctx: Some(need), max_outputs: options.max_tokens, mtp, ..options };
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
    let mut predicted = Vec::new();
    for (i, case) in fixture.mtp.iter().take(args.prompts).enumerate() {
        let (diff, matched) = mtp_rows(&mut session, case)?;
        let (of, n) = (case.argmax.len(), case.ids.len());
        let agrees = diff <= tol && matched == of;
        ok &= agrees;
        if !json {
            let miss = if agrees { "" } else { "  MISS" };
            println!("  mtp    {i} ({n:>3} tokens)  logits within {diff:.2e} ({tol:.0e})  greedy {matched}/{of}{miss}");
        }
        predicted.push(json!({
            "tokens": n,
            "max_abs_logit_diff": diff,
            "greedy_matched": matched,
            "greedy_total": of,
            "ok": agrees,
        }));
    }
    let json = json!({ "backend": session.backend().name(), "tol": tol, "prompts": rows, "mtp": predicted });
    Ok(Outcome { json, ok })
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

pub fn row_difference(got: &[f32], want: &[f32]) -> f32 {
    if got.len() != want.len() {
        return f32::INFINITY;
    }
    let off = |(a, b): (&f32, &f32)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY };
    got.iter().zip(want).map(off).fold(0.0, f32::max)
}

/// The largest difference over all rows of multi-token prediction, and how many of their best tokens agree.
fn mtp_rows(session: &mut Session, case: &Mtp) -> Result<(f32, usize)> {
    let mut wanted = case.logits_all.data.chunks_exact(session.n_vocab()).zip(&case.argmax);
    let (mut diff, mut matched) = (0f32, 0);
    session.rollback(0)?;
    block_on(session.prefill_part(&case.ids))?;
    let next = case.next_ids.last().copied().unwrap_or_default();
    block_on(session.mtp_all(next, |row| match wanted.next() {
        Some((want, best)) => {
            diff = diff.max(row_difference(row, want));
            matched += usize::from(argmax(row) == *best);
        }
        None => diff = f32::INFINITY,
    }))?;
    Ok((diff, matched))
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
