//! Which kernels are the fastest on each adapter, measured once and kept in the cache folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::machine;
use clap::ValueEnum;
use pagelm::Result;
use pagelm::backend::webgpu::{Clock, WebGpu};
use pagelm::engine::Model;
use pollster::block_on;
use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tune {
    /// Measures where this adapter and driver were not measured yet.
    Auto,
    /// The kernels that run where nothing was measured.
    Off,
    /// Measures in any case.
    Again,
}

/// Chooses kernels for a model that is about to be loaded.
pub fn apply(gpu: &mut WebGpu, model: &Model, tune: Tune) -> Result<()> {
    if tune == Tune::Off || gpu.tuning().software {
        return Ok(());
    }
    let a = gpu.adapter();
    let key = format!("{} ({}, {}), {:?}", a.name, a.backend, a.driver, gpu.tuning().gemm);
    let file = file();
    let known = file.as_deref().and_then(|f| read(f).remove(&key));
    if tune == Tune::Auto && known.is_some_and(|record| gpu.adopt(&record.to_string())) {
        return Ok(());
    }
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64() * 1e3;
    if let Some(record) = block_on(gpu.tune(&model.plan, model.limits, Clock { now: &now, gpu: true }))? {
        tracing::info!("measured the kernels in {:.0} ms", now());
        let kept = file.map_or(Ok(()), |file| write(&file, &key, &record));
        kept.unwrap_or_else(|e| tracing::warn!("the measurements could not be saved: {e}"));
    }
    Ok(())
}

/// Where the records are, if the system says where such files go.
fn file() -> Option<PathBuf> {
    Some(machine::cache_folder()?.join("tuning.json"))
}

/// The records by adapter. A file that is missing or broken has none.
fn read(file: &Path) -> Map<String, Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Adds a record. Another process sees the old file or the new one.
fn write(file: &Path, key: &str, record: &str) -> std::io::Result<()> {
    let mut all = read(file);
    all.insert(key.to_string(), serde_json::from_str(record)?);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = file.with_extension(format!("{}.new", std::process::id()));
    fs::write(&new, format!("{:#}\n", Value::Object(all)))?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_by_adapter_and_a_broken_file_is_begun_anew() {
        let folder = std::env::temp_dir().join(format!("pagelm-tuning-{}", std::process::id()));
        let file = folder.join("deep").join("tuning.json");
        assert!(read(&file).is_empty());
        write(&file, "a", "{\"keys\":256}").unwrap();
        write(&file, "b", "{\"keys\":64}").unwrap();
        write(&file, "a", "{\"keys\":128}").unwrap();
        let all = read(&file);
        assert_eq!((all["a"]["keys"].as_u64(), all["b"]["keys"].as_u64()), (Some(128), Some(64)));
        for broken in ["", "{\"a\":", "[1]", "\u{0}"] {
            fs::write(&file, broken).unwrap();
            assert!(read(&file).is_empty(), "{broken}");
        }
        write(&file, "c", "{}").unwrap();
        assert_eq!(read(&file).len(), 1);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing lies about");
        fs::remove_dir_all(folder).unwrap();
    }
}
