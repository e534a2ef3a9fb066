//! Real models: the reference's tokens are fed one by one, and ours are compared wherever the reference's choice was
//! clear.

use std::path::Path;

use pagelm::engine::{Options, Session};
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use serde::Deserialize;
use serde_json::json;

use super::{Args, Outcome, malformed};
use crate::commands::{argmax, log_sum_exp};
use crate::model::{self, Purpose};

/// Below this lead of the best logit over the second an exact implementation may choose the other.
const CLEAR: f32 = 0.05;

#[derive(Deserialize)]
pub struct Greedy {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    name: String,
    ids: Vec<u32>,
    f32: Reference,
}

#[derive(Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    /// The best logit minus the second, per step.
    margins: Vec<f32>,
    /// The most likely tokens with their log-probabilities, per step.
    top: Vec<Vec<(u32, f64)>>,
}

impl Greedy {
    /// Refuses numbers that would be compared with nothing.
    fn check(&self) -> Result<(), String> {
        if self.prompts.is_empty() {
            return Err("expected at least one prompt".to_string());
        }
        let whole = |r: &Reference| !r.tokens.is_empty() && r.margins.len() == r.tokens.len();
        match self.prompts.iter().find(|p| p.ids.is_empty() || !whole(&p.f32)) {
            Some(p) => Err(format!("prompt `{}` must have ids, and a margin for each token", p.name)),
            None => Ok(()),
        }
    }
}

/// Steps of one prompt.
#[derive(Default)]
struct Steps {
    clear: usize,
    clear_matched: usize,
    matched: usize,
    max_diff: f64,
    first_miss: Option<usize>,
}

pub fn run(args: &Args, path: &Path, greedy: &Greedy, json: bool) -> Result<Outcome> {
    greedy.check().map_err(|what| malformed(path, what))?;
    let Some(file) = &args.model else {
        let detail = "these numbers belong to a real model; give its file with --model";
        return Err(Error::new(ErrorKind::InvalidArgument, detail));
    };
    let prompts = &greedy.prompts[..greedy.prompts.len().min(args.prompts)];
    let need = prompts.iter().map(|p| p.ids.len() + p.f32.tokens.len()).max().unwrap_or(1);
    let options = Options { n_ctx: Some(need), ..args.device.options() };
    let mut session = model::open(file, &args.device, options, Purpose::Compare)?.session;
    let (mut rows, mut ok) = (Vec::new(), true);
    for prompt in prompts {
        let total = prompt.f32.tokens.len().min(args.steps);
        let steps = follow(&mut session, prompt, total)?;
        let agrees = steps.clear_matched == steps.clear;
        ok &= agrees;
        if !json {
            let miss = steps.first_miss.map_or(String::new(), |i| format!("  MISS at step {i}"));
            println!(
                "  {:<14} ({:>4} tokens)  clear steps {}/{}  all steps {}/{total}  log-probabilities within {:.2e}{miss}",
                prompt.name,
                prompt.ids.len(),
                steps.clear_matched,
                steps.clear,
                steps.matched,
                steps.max_diff,
            );
        }
        rows.push(json!({
            "name": prompt.name,
            "tokens": prompt.ids.len(),
            "steps": total,
            "matched": steps.matched,
            "clear_steps": steps.clear,
            "clear_matched": steps.clear_matched,
            "max_abs_logprob_diff": steps.max_diff,
            "ok": agrees,
        }));
    }
    let json = json!({ "backend": session.backend().name(), "clear_margin": CLEAR, "prompts": rows });
    Ok(Outcome { json, ok })
}

/// Along the first `total` tokens.
fn follow(session: &mut Session, prompt: &Prompt, total: usize) -> Result<Steps> {
    let mut steps = Steps::default();
    let r = &prompt.f32;
    session.rollback(0)?;
    let mut row = block_on(session.prefill(&prompt.ids))?;
    for (i, &want) in r.tokens[..total].iter().enumerate() {
        let matches = argmax(row) == want;
        let clear = r.margins.get(i).is_some_and(|m| *m > CLEAR);
        steps.matched += usize::from(matches);
        steps.clear += usize::from(clear);
        steps.clear_matched += usize::from(clear && matches);
        if clear && !matches {
            steps.first_miss.get_or_insert(i);
        }
        if let Some(top) = r.top.get(i) {
            steps.max_diff = steps.max_diff.max(largest_difference(row, top));
        }
        if i + 1 < total {
            row = block_on(session.decode(want))?;
        }
    }
    Ok(steps)
}

/// Of log-probabilities. What is not finite is infinitely far off.
fn largest_difference(row: &[f32], top: &[(u32, f64)]) -> f64 {
    let sum = log_sum_exp(row);
    let off = |&(id, want): &(u32, f64)| {
        let got = row.get(id as usize).map_or(f64::NAN, |&l| f64::from(l) - sum);
        if got.is_finite() { (got - want).abs() } else { f64::INFINITY }
    };
    top.iter().map(off).fold(0.0, f64::max)
}
