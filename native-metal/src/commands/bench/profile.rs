//! `pagelm bench --profile`: the time of each kernel of one step.

use std::collections::BTreeMap;
use std::future::poll_fn;

use pagelm::backend::webgpu::{Options as GpuOptions, WebGpu};
use pagelm::backend::{Backend, Step};
use pagelm::engine::Model;
use pagelm::graph::Entry;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::json;

use crate::Report;
use crate::machine;
use crate::model::{ModelArgs, Purpose};
use crate::source;

/// The dispatches of one kernel.
#[derive(Default)]
struct Row {
    dispatches: u64,
    ns: f64,
    weight_bytes: u64,
}

pub fn run(args: &ModelArgs, n: usize, depth: usize, reps: usize, json: bool) -> Result<Report> {
    let source::Opened { gguf, source, .. } = source::open(&args.model)?;
    let mut gpu = block_on(WebGpu::new(GpuOptions { timestamps: true, ..GpuOptions::default() }))?;
    let roofline = gpu.streaming_read()?;
    let mut options = args.device.options(Purpose::Run);
    options.n_ctx = Some(options.n_ctx.unwrap_or(depth + (reps + 1) * n));
    let mut model = Model::new(&gguf, &|d| gpu.supports(d), &options)?;
    model.write(&gguf, &*source, &mut gpu)?;
    gpu.finish_weights()?;

    let n_vocab = model.plan.graph.n_vocab();
    let tokens = super::tokens(n_vocab, depth + (reps + 1) * n);
    let mut pos = 0;
    while pos < depth {
        let n = (depth - pos).min(model.limits.max_tokens);
        gpu.submit(&Step { tokens: &tokens[pos..pos + n], pos, outputs: 0, entry: Entry::Trunk })?;
        block_on(poll_fn(|cx| gpu.poll_logits(cx, &mut [])))?;
        pos += n;
    }
    let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
    for rep in 0..=reps {
        let at = depth + rep * n;
        let timed = gpu.profile(&Step { tokens: &tokens[at..at + n], pos: at, outputs: 1, entry: Entry::Trunk })?;
        // The first one warms up.
        for t in timed.iter().filter(|_| rep > 0) {
            let row = rows.entry(t.kernel).or_default();
            row.dispatches += 1;
            row.ns += t.ns;
            row.weight_bytes += t.weight_bytes;
        }
    }
    if rows.is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument, "--profile needs at least one repetition"));
    }
    let total: f64 = rows.values().map(|r| r.ns).sum();
    let mut sorted: Vec<_> = rows.into_iter().collect();
    sorted.sort_by(|a, b| b.1.ns.total_cmp(&a.1.ns));
    if !json {
        println!("{:<16} {:>10} {:>12} {:>7} {:>9} {:>9}", "kernel", "a step", "us a step", "share", "GB/s", "of read");
    }
    let mut kernels = Vec::new();
    for (name, r) in &sorted {
        let (per_step, us) = (r.dispatches as f64 / reps as f64, r.ns / reps as f64 / 1e3);
        let speed = (r.weight_bytes > 0 && r.ns > 0.0).then(|| r.weight_bytes as f64 / (r.ns * 1e-9));
        if !json {
            let text = |v: Option<f64>| v.map_or_else(|| "-".to_string(), |v| format!("{v:.2}"));
            let (gb, part) = (text(speed.map(|s| s / 1e9)), text(speed.map(|s| s / roofline)));
            println!("{name:<16} {per_step:>10} {us:>12.1} {:>6.1}% {gb:>9} {part:>9}", 100.0 * r.ns / total);
        }
        kernels.push(json!({
            "kernel": name, "dispatches_per_step": per_step, "us_per_step": us,
            "weight_bytes_per_step": r.weight_bytes / reps as u64,
            "bytes_per_s": speed, "fraction_of_read": speed.map(|s| s / roofline),
        }));
    }
    let us = total / reps as f64 / 1e3;
    if !json {
        println!("{us:.1} us a step in kernels; a kernel that only reads: {:.2} GB/s", roofline / 1e9);
    }
    let a = gpu.adapter();
    let json = json!({
        "model": args.model.display().to_string(),
        "tokens": n,
        "depth": depth,
        "kernels": kernels,
        "us_per_step": us,
        "read_bytes_per_s": roofline,
        "adapter": a,
        "machine": machine::describe(&a.name),
        "versions": machine::versions(),
    });
    Ok(Report { json, ok: true })
}
