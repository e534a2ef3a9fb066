//! `pagelm bench --profile`: the time of each kernel of one decoded token.

use pagelm::engine::{KernelTime, Profile};
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::json;

use crate::Report;
use crate::device::Kind;
use crate::machine;
use crate::model::{self, ModelArgs, Purpose};

pub fn run(args: &ModelArgs, depth: usize, reps: usize, json: bool) -> Result<Report> {
    let mut args = args.clone();
    match args.device.backend {
        Kind::Gpu => {}
        Kind::Auto => args.device.backend = Kind::Gpu,
        _ => {
            return Err(Error::new(ErrorKind::InvalidArgument, "--profile times kernels of a GPU: take --backend gpu"));
        }
    }
    let mut options = args.device.options();
    options.n_ctx = Some(options.n_ctx.unwrap_or(depth + 1));
    let mut opened = model::open(&args.model, &args.device, options, Purpose::Run)?;
    let profile = block_on(opened.session.profile(depth, reps))?;
    if !json {
        print(&profile);
    }
    let kernel = |k: &KernelTime| {
        json!({
            "kernel": k.kernel,
            "dispatches_per_token": k.dispatches_per_token,
            "us_per_token": k.us_per_token,
            "weight_bytes_per_token": k.weight_bytes_per_token,
            "bytes_per_s": k.bytes_per_s,
            "fraction_of_read": k.fraction_of_read,
        })
    };
    let json = json!({
        "model": args.model.display().to_string(),
        "profile": {
            "depth": profile.depth,
            "kernels": profile.kernels.iter().map(kernel).collect::<Vec<_>>(),
            "us_per_token": profile.us_per_token,
            "read_bytes_per_s": profile.read_bytes_per_s,
        },
        "machine": machine::describe(&opened.device),
        "versions": machine::versions(),
    });
    Ok(Report { json, ok: true })
}

fn print(p: &Profile) {
    println!("{:<16} {:>10} {:>12} {:>7} {:>9} {:>9}", "kernel", "a token", "us a token", "share", "GB/s", "of read");
    for k in &p.kernels {
        let text = |v: Option<f64>| v.map_or_else(|| "-".to_string(), |v| format!("{v:.2}"));
        let (gb, part) = (text(k.bytes_per_s.map(|s| s / 1e9)), text(k.fraction_of_read));
        let share = 100.0 * k.us_per_token / p.us_per_token;
        let (n, us) = (k.dispatches_per_token, k.us_per_token);
        println!("{:<16} {n:>10.1} {us:>12.1} {share:>6.1}% {gb:>9} {part:>9}", k.kernel);
    }
    println!(
        "{:.1} us a token in kernels; a kernel that only reads: {:.2} GB/s",
        p.us_per_token,
        p.read_bytes_per_s / 1e9
    );
}
