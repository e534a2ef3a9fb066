//! What a measurement was made on.

use serde_json::{Value, json};

/// The processor and the system. `device` is what the backend says of its own.
pub fn describe(device: &str) -> Value {
    json!({
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cpu": cpu_name(),
        "cores": std::thread::available_parallelism().map_or(1, |n| n.get()),
        "device": device,
    })
}

pub fn versions() -> Value {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    json!({ "pagelm": env!("CARGO_PKG_VERSION"), "profile": profile })
}

/// The most memory that this process ever held, in bytes, where the system says so.
pub fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split(':').nth(1)?.trim().to_string())
}
