//! Where reference data lies. `../shared` beside the repository holds all of it; a plain clone has `tests/golden` only.

use std::path::{Path, PathBuf};

/// The path of `name` (such as `golden/llama.json`) under `../shared`, or under `tests/` in a plain clone.
///
/// Returns `None`, and says so by name, only in a clone without `../shared`. Where `../shared` is there, a file that
/// is missing in it is a failure.
pub fn fixture(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = root.join("../shared");
    if shared.is_dir() {
        let path = shared.join(name);
        assert!(path.exists(), "fixture {name} is missing in {}", shared.display());
        return Some(path);
    }
    let own = root.join("tests").join(name);
    if own.exists() {
        return Some(own);
    }
    eprintln!("skipped: fixture {name} is not in this clone");
    None
}

/// A JSON fixture, parsed.
pub fn json(name: &str) -> Option<serde_json::Value> {
    let path = fixture(name)?;
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// A binary fixture.
pub fn bytes(name: &str) -> Option<Vec<u8>> {
    let path = fixture(name)?;
    Some(std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Whether the reference data beside the repository is there.
pub fn shared() -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").is_dir()
}

/// A downloaded model. `PAGELM_CACHE` names another place than `~/.cache/pagelm`.
///
/// Only SmolLM2 must be there where the other reference data is; the bigger ones are skipped, by name.
pub fn model(name: &str) -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache/pagelm"));
    let cache = std::env::var_os("PAGELM_CACHE").map(PathBuf::from).or_else(home)?;
    let path = cache.join("models").join(name);
    if path.exists() {
        return Some(path);
    }
    let must = shared() && name.starts_with("SmolLM2");
    assert!(!must, "{} is missing; run tests/tools/setup.sh models", path.display());
    eprintln!("skipped: model {name} is not in {}", path.display());
    None
}
