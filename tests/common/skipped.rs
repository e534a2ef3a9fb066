//! What could not be tested is said, not passed over: `make test` prints the list at its end.

use std::path::PathBuf;

/// Lists the running test as one that could not run.
///
/// # Panics
/// Under `CI`, where all that tests need must be there.
fn skip(reason: &str) {
    let ci = std::env::var_os("CI").is_some_and(|v| !v.is_empty());
    assert!(!ci, "{reason}; under CI nothing that is missing may be skipped");
    list(reason);
}

/// Lists the running test as one that someone chose not to run, wholly or in part.
pub fn list(reason: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    eprint!("skipped: {line}");
    if let Some(list) = std::env::var_os("PAGELM_SKIPPED") {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(list).expect("PAGELM_SKIPPED opens");
        file.write_all(line.as_bytes()).expect("PAGELM_SKIPPED is writable");
    }
}

/// The path of a downloaded model. `PAGELM_CACHE` names another place than `~/.cache/pagelm`.
pub fn unless_downloaded(name: &str) -> Option<PathBuf> {
    unless_cached(&format!("models/{name}"), "make models")
}

/// The path of what was put into the cache.
pub fn unless_cached(name: &str, how: &str) -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache/pagelm"));
    let cache = std::env::var_os("PAGELM_CACHE").map(PathBuf::from).or_else(home);
    let path = cache.map(|c| c.join(name)).filter(|p| p.exists());
    if path.is_none() {
        skip(&format!("{name} is not downloaded ({how})"));
    }
    path
}
