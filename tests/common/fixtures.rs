//! Where reference data lies: in `tests/` of the clone, and downloaded models in a cache folder.

use std::path::{Path, PathBuf};

use super::skipped;

/// The path of `name` (such as `golden/llama.json`) in `tests/`.
pub fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name);
    assert!(path.exists(), "{} is missing; is the clone complete?", path.display());
    path
}

/// A JSON fixture, parsed.
pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A binary fixture.
pub fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A downloaded model, which may be missing: then the test is listed as skipped.
pub fn model(name: &str) -> Option<PathBuf> {
    skipped::unless_downloaded(name)
}
