//! `pagelm inspect`: what is in a file, and whether it can run here.

use std::collections::BTreeMap;

use pagelm::engine::{FileSampling, Model, Options};
use pagelm::gguf::{Array, Gguf, Value};
use pagelm::{ErrorKind, Result};
use serde_json::{Map, json};

use crate::device::{Device, Running};
use crate::model::{ModelArgs, Purpose};
use crate::source;
use crate::store::{self, HubArgs, Store};
use crate::{Report, error_json};

/// Elements of an array that are shown.
const SHOWN: usize = 6;

/// Characters of a string that are shown.
const SHOWN_CHARS: usize = 120;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Say with which context and type of the cache the model fits, if it does not with those that the flags give.
    #[arg(long)]
    fit: bool,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let path = &args.model.model;
    let (gguf, bytes) = if store::is_remote(path) {
        Store::open()?.header(&path.to_string_lossy(), &HubArgs::default())?
    } else {
        let opened = source::open(path)?;
        ((*opened.gguf).clone(), opened.bytes)
    };
    let runs = can_run(&gguf, args)?;
    let sampling = FileSampling::from_gguf(&gguf.meta).map_or_else(|e| error_json(&e), |s| sampling_json(&s));
    if !json {
        print_text(&gguf, bytes, &runs, &sampling);
    }
    let metadata: Map<_, _> = gguf.meta.iter().map(|(k, v)| (k.to_string(), value_json(v))).collect();
    let tensors: Vec<_> = (gguf.tensors.iter())
        .map(|t| json!({ "name": t.name, "type": t.dtype.name(), "dims": t.dims, "offset": t.offset, "bytes": t.len }))
        .collect();
    let json = json!({
        "file": path.display().to_string(),
        "bytes": bytes,
        "gguf_version": gguf.version,
        "architecture": gguf.meta.architecture().ok(),
        "metadata": metadata,
        "tensors": tensors,
        "types": types(&gguf).into_iter().map(|(t, (n, bytes))| (t.to_string(), json!({ "tensors": n, "bytes": bytes }))).collect::<Map<_, _>>(),
        "sampling": sampling,
        "runs": runs,
    });
    Ok(Report { json, ok: true })
}

/// What the file recommends, named like the flags of `run`.
fn sampling_json(s: &FileSampling) -> serde_json::Value {
    let all = json!({
        "temperature": s.temperature,
        "top_k": s.top_k,
        "top_p": s.top_p,
        "min_p": s.min_p,
        "repeat_penalty": s.repeat_penalty,
        "penalty_last_n": s.penalty_last_n,
    });
    all.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Whether the backend that would be chosen runs it, and the memory that it then takes. A model that cannot run is an answer
/// here, not a failure.
fn can_run(gguf: &Gguf, args: &Args) -> Result<serde_json::Value> {
    let flags = &args.model.device;
    let mut device = flags.device(Purpose::Run)?;
    let open = |device: &Device, options: &Options| -> Result<Model> {
        let model = Model::new(gguf, &|d| device.backend.get().supports(d), options)?;
        if let Running::Gpu(gpu) = &device.backend {
            gpu.check_limits(&model.plan, model.limits)?;
        }
        Ok(model)
    };
    let plan = |device: &Device| open(device, &flags.options_on(device, flags.options()));
    let mut model = plan(&device);
    if let Err(e) = &model
        && let Some(other) = device.settings.fall_back(e)
    {
        device = other;
        model = plan(&device);
    }
    let mut changes = Vec::new();
    if args.fit && model.as_ref().is_err_and(|e| e.kind() == ErrorKind::OutOfMemory) {
        let options = flags.options_on(&device, flags.options());
        let fit = open(&device, &Options { memory: None, ..options })
            .and_then(|model| model.fit(&options, &flags.kv_types(&device), options.memory.unwrap_or(u64::MAX)));
        model = fit.and_then(|fit| {
            changes = fit.changes;
            open(&device, &Options { n_ctx: Some(fit.context_length), kv_type: fit.kv_type, ..options })
        });
    }
    let (backend, on) = (device.backend.get().name(), &device.description);
    Ok(match model {
        Ok(model) => {
            let (m, ctx) = (model.memory(), model.limits.n_ctx);
            json!({
                "ok": true,
                "backend": backend,
                "device": on,
                "ctx": ctx,
                "kv_type": model.limits.kv.name(),
                "weights": m.weights,
                "kv": m.cache(),
                "scratch": m.scratch,
                "changes": changes,
            })
        }
        Err(e) => json!({ "ok": false, "backend": backend, "device": on, "error": error_json(&e) }),
    })
}

/// How many tensors of each type, and their bytes.
fn types(gguf: &Gguf) -> BTreeMap<&'static str, (usize, u64)> {
    let mut types = BTreeMap::new();
    for t in &gguf.tensors {
        let entry: &mut (usize, u64) = types.entry(t.dtype.name()).or_default();
        entry.0 += 1;
        entry.1 += t.len;
    }
    types
}

fn print_text(gguf: &Gguf, bytes: u64, runs: &serde_json::Value, sampling: &serde_json::Value) {
    println!("GGUF version {}, {}", gguf.version, mib(bytes));
    for (key, value) in gguf.meta.iter() {
        println!("  {key} = {}", value_json(value));
    }
    println!("{} tensors", gguf.tensors.len());
    for t in &gguf.tensors {
        println!("  {:<40} {:<8} {:?}", t.name, t.dtype.name(), t.dims);
    }
    println!("types");
    for (name, (n, bytes)) in types(gguf) {
        println!("  {name:<8} {n:>4} tensors {:>12}", mib(bytes));
    }
    if sampling.as_object().is_some_and(|s| !s.is_empty()) {
        println!("sampling where a caller says nothing: {sampling}");
    }
    let (backend, device) = (text(&runs["backend"]), text(&runs["device"]));
    match runs["error"].as_object() {
        Some(e) => println!("cannot run on {backend} ({device}): {} [{}]", text(&e["message"]), text(&e["code"])),
        None => {
            let size = |key: &str| mib(runs[key].as_u64().unwrap_or(0));
            println!("runs on {backend} ({device}) with {} of weights", size("weights"));
            println!("and {} of cache for {} positions, at {}", size("kv"), runs["ctx"], text(&runs["kv_type"]));
            println!("and {} of scratch", size("scratch"));
            for change in runs["changes"].as_array().into_iter().flatten() {
                println!("  {}", text(&change["message"]));
            }
            if runs["changes"].as_array().is_some_and(|c| !c.is_empty()) {
                println!("so run it with --ctx {} --kv-type {}", runs["ctx"], text(&runs["kv_type"]));
            }
        }
    }
}

fn text(v: &serde_json::Value) -> &str {
    v.as_str().unwrap_or_default()
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn value_json(v: &Value) -> serde_json::Value {
    match v {
        Value::Uint(u) => json!(u),
        Value::Int(i) => json!(i),
        Value::Float(f) => json!(f),
        Value::Bool(b) => json!(b),
        Value::String(s) => json!(short(s)),
        Value::Array(a) => array_json(a),
    }
}

fn array_json(a: &Array) -> serde_json::Value {
    let shown: Vec<serde_json::Value> = match a {
        Array::Uint(v) => v.iter().take(SHOWN).map(|x| json!(x)).collect(),
        Array::Int(v) => v.iter().take(SHOWN).map(|x| json!(x)).collect(),
        Array::Float(v) => v.iter().take(SHOWN).map(|x| json!(x)).collect(),
        Array::Bool(v) => v.iter().take(SHOWN).map(|x| json!(x)).collect(),
        Array::Strings(v) => v.iter().take(SHOWN).map(|s| json!(short(&String::from_utf8_lossy(s)))).collect(),
    };
    if a.len() <= SHOWN { json!(shown) } else { json!({ "first": shown, "length": a.len() }) }
}

fn short(s: &str) -> String {
    match s.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}… ({} bytes)", &s[..at], s.len()),
        None => s.to_string(),
    }
}
