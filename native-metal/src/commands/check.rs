//! `pagelm check`: every op of a model on one backend, and every layer, against the reference.

use clap::ValueEnum;
use pagelm::engine::check::{Checked, Checker, Stats};
use pagelm::gguf::Gguf;
use pagelm::text::{EncodeOptions, Tokenizer};
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::json;

use crate::Report;
use crate::model::{ModelArgs, Purpose};
use crate::source;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// What is taken as true.
    #[arg(long, value_enum, default_value = "reference")]
    against: Against,
    /// The text whose tokens are run.
    #[arg(long, value_name = "TEXT", default_value = "The capital of France is")]
    prompt: String,
    /// Run these tokens instead.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', conflicts_with = "prompt")]
    ids: Vec<u32>,
    /// Go on after an op that is over its tolerance.
    #[arg(long)]
    all: bool,
    /// Show what the values after each layer are like.
    #[arg(long)]
    layers: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Against {
    Reference,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let Against::Reference = args.against;
    let path = &args.model.model;
    let named = |e: Error| e.at(path.display());
    let source::Opened { gguf, source, .. } = source::open(path)?;
    let ids = if args.ids.is_empty() { encode(&gguf, &args.prompt)? } else { args.ids.clone() };
    let checker = Checker::new(&gguf, &*source, &ids, args.model.device.allow_unknown).map_err(named)?;
    let layers: Vec<Stats> = if args.layers { checker.layers().collect() } else { Vec::new() };
    if !json {
        for s in &layers {
            println!(
                "{:24} {:11.4e} to {:11.4e}  mean {:11.4e}  {} not finite",
                s.name, s.min, s.max, s.mean, s.non_finite
            );
        }
    }
    let mut device = args.model.device.device(Purpose::Compare)?;
    let parts = [checker.ops(), checker.blocks(device.backend.get())].concat();
    tracing::info!("{} tokens, {} ops and blocks of them, on {}", ids.len(), parts.len(), device.description);
    let (mut seen, mut bad) = (Vec::new(), 0);
    for part in &parts {
        let c = block_on(checker.check(part, device.backend.get_mut()))?;
        if !json && (!c.ok() || args.all) {
            let verdict = if c.ok() { "ok" } else { "OVER" };
            println!("{:8} {:12} {:32} {:.2e} of {:.0e}  {verdict}", c.node, c.op, c.name, c.diff, c.tolerance);
        }
        bad += usize::from(!c.ok());
        let stop = !c.ok() && !args.all;
        seen.push(c);
        if stop {
            break;
        }
    }
    // The largest of each op.
    let mut worst: Vec<&Checked> = Vec::new();
    for one in &seen {
        match worst.iter_mut().find(|w| w.op == one.op) {
            Some(w) if w.diff >= one.diff => {}
            Some(w) => *w = one,
            None => worst.push(one),
        }
    }
    if !json {
        for c in &worst {
            println!("{:12} largest {:.2e} of {:.0e}, at {} {}", c.op, c.diff, c.tolerance, c.node, c.name);
        }
        println!("{} ops and blocks, {bad} over their tolerance", seen.len());
    }
    let ops: Vec<_> = (worst.iter())
        .map(|c| json!({ "op": c.op, "node": c.node.to_string(), "name": c.name, "diff": c.diff, "tolerance": c.tolerance }))
        .collect();
    let layers: Vec<_> = (layers.iter())
        .map(|s| json!({ "name": s.name, "min": s.min, "max": s.max, "mean": s.mean, "non_finite": s.non_finite }))
        .collect();
    let backend = device.backend.get().name();
    let json = json!({ "backend": backend, "checked": seen.len(), "over": bad, "worst": ops, "layers": layers });
    Ok(Report { json, ok: bad == 0 })
}

fn encode(gguf: &Gguf, text: &str) -> Result<Vec<u32>> {
    let ids =
        Tokenizer::from_gguf(&gguf.meta)?.encode(text, EncodeOptions { add_special: true, parse_special: false })?;
    if ids.is_empty() { Err(Error::new(ErrorKind::EmptyPrompt, "the prompt has no tokens")) } else { Ok(ids) }
}
