//! What a measurement was made on, and when.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use memmap2::MmapMut;

use pagelm::text::template::DateTime;
use serde_json::{Value, json};

/// Where what can be had again is kept, if the system says where such files go.
pub fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let usual = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(usual)))?;
    Some(cache.join("pagelm"))
}

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

/// Bytes per second that so many threads read from memory, one after another: what decoding cannot exceed.
pub fn read_bandwidth(threads: usize) -> Result<f64, std::io::Error> {
    const BYTES: usize = 256 << 20; // more than any cache
    let mut memory = MmapMut::map_anon(BYTES)?;
    #[cfg(target_os = "linux")]
    memory.advise(memmap2::Advice::HugePage)?;
    memory.fill(1);
    let part = BYTES / threads / 64 * 64;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in memory.chunks_exact(part) {
                scope.spawn(|| {
                    let mut sums = [0u64; 8];
                    for line in part.as_chunks::<64>().0 {
                        for (sum, word) in sums.iter_mut().zip(line.as_chunks().0) {
                            *sum ^= u64::from_ne_bytes(*word);
                        }
                    }
                    std::hint::black_box(sums);
                });
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok((part * threads) as f64 / best)
}

/// The memory that programs may still take, in bytes, where the system says so.
pub fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split(':').nth(1)?.trim().to_string())
}

/// The time in UTC.
pub fn now() -> DateTime {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let leap = |y: u16| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut days, mut year) = (seconds / 86_400, 1970);
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let part = |per: u64, of: u64| (seconds / per % of) as u8;
    DateTime { year, month, day: days as u8 + 1, hour: part(3600, 24), minute: part(60, 60), second: part(1, 60) }
}
