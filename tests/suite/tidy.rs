//! Keeps the house: layers, size budgets, and the lists that must agree with each other.

mod imports;
mod shaders;
mod shapes;
mod web;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pagelm::ErrorKind;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under `dir` with this extension, as paths relative to the repository.
fn files(dir: &str, ext: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, ext: &str, out: &mut Vec<PathBuf>) {
        let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["node_modules", "target", "pkg", "pkg.new", "dist"].contains(&name.as_str()) {
                    walk(&path, ext, out);
                }
            } else if name.ends_with(&format!(".{ext}")) {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    walk(&root().join(dir), ext, &mut out);
    out.iter().map(|p| p.strip_prefix(root()).unwrap().to_path_buf()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What each module of `crate/` may import, besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("dtype", &[]),
    ("gguf", &["error", "dtype"]),
    ("hf", &["error", "dtype", "gguf"]),
    ("hub", &["error"]),
    ("image", &["error"]),
    ("quant", &["error", "dtype"]),
    ("graph", &["dtype"]),
    ("arch", &["error", "dtype", "gguf", "graph"]),
    ("backend", &["error", "dtype", "quant", "graph"]),
    ("text", &["error", "gguf"]),
    ("grammar", &["error", "text"]),
    ("engine", &["error", "dtype", "gguf", "quant", "graph", "arch", "image", "backend", "text", "grammar"]),
    ("api", &["error", "backend", "gguf", "image", "text", "grammar", "engine"]),
];

#[test]
fn imports_in_crate_only_go_downwards() {
    let mut used = BTreeSet::new();
    for path in files("crate", "rs") {
        let module = path.components().nth(1).unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        if module == "lib" {
            continue;
        }
        let (_, allowed) = LAYERS.iter().find(|(m, _)| *m == module).expect("every module is in the layer table");
        for (i, line) in read(&path).lines().enumerate() {
            for part in line.split("crate::").skip(1) {
                let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                // `crate::bail!` and the re-exports of the root are `error` and `dtype`.
                let fine = target == module
                    || allowed.contains(&target.as_str())
                    || ["bail", "Error", "ErrorKind", "Result", "DType"].contains(&target.as_str());
                assert!(fine, "{}:{}: {module} may not import {target}", path.display(), i + 1);
                let right = match target.as_str() {
                    "bail" | "Error" | "ErrorKind" | "Result" => "error".to_string(),
                    "DType" => "dtype".to_string(),
                    _ => target,
                };
                used.insert((module.clone(), right));
            }
        }
    }
    for (module, rights) in LAYERS {
        for right in *rights {
            let is_used = used.contains(&((*module).to_string(), (*right).to_string()));
            assert!(is_used, "{module} may import {right} and does not: take the right away");
        }
    }
}

#[test]
fn files_and_folders_keep_their_size_budgets() {
    // Raising a number is a visible edit that someone must defend.
    let budgets =
        [("crate", "rs", 42_200), ("shaders", "wgsl", 4_300), ("web/src", "ts", 9_980), ("web/bindings", "rs", 1_700)];
    for (dir, ext, budget) in budgets {
        let mut total = 0;
        for path in files(dir, ext) {
            let lines = read(&path).lines().count();
            assert!(lines <= 400, "{} has {lines} lines, at most 400 are allowed", path.display());
            total += lines;
        }
        assert!(total <= budget, "{dir} has {total} lines, its budget is {budget}");
        assert!(total > 0, "{dir} holds no {ext} file");
    }
}

#[test]
fn every_error_code_is_known_to_the_page() {
    let ts = read(Path::new("web/src/shared/errors.ts"));
    for kind in ErrorKind::ALL {
        assert!(ts.contains(&format!("\"{}\"", kind.code())), "web/src/shared/errors.ts lacks {}", kind.code());
    }
}

#[test]
fn every_software_adapter_is_known_to_the_page() {
    let list = pagelm::backend::SOFTWARE_ADAPTERS.join("|");
    let ts = read(Path::new("web/src/page/capabilities.ts"));
    assert!(ts.contains(&format!("/{list}/i")), "web/src/page/capabilities.ts must test for /{list}/i");
}

#[test]
fn every_architecture_has_a_golden_fixture_in_the_suite() {
    let suite = read(Path::new("tests/suite/golden.rs")) + &read(Path::new("tests/suite/embed.rs"));
    for (name, _) in pagelm::arch::REGISTRY {
        assert!(suite.contains(&format!("\"{name}")), "tests/suite/golden.rs and embed.rs name no fixture of `{name}`");
    }
}

#[test]
fn every_kernel_family_names_its_tests() {
    let helpers = ["launch", "libs", "matrix", "mod", "table"];
    let families: Vec<_> = (files("crate/backend/webgpu/kernels", "rs").into_iter())
        .filter(|p| !helpers.contains(&p.file_stem().unwrap().to_str().unwrap()) && !p.iter().any(|d| d == "matmul"))
        .chain([PathBuf::from("crate/backend/webgpu/kernels/matmul/mod.rs")])
        .collect();
    assert!(families.len() > 8, "found only {families:?}");
    for path in families {
        let text = read(&path);
        let line = text.lines().find_map(|l| l.strip_prefix("//! Tests: "));
        let tests = line.unwrap_or_else(|| panic!("{}: no line says where its tests are", path.display()));
        for test in tests.split('`').skip(1).step_by(2) {
            assert!(root().join(test).is_file(), "{}: there is no test file {test}", path.display());
        }
    }
}

#[test]
fn unsafe_code_stays_where_it_is_explained() {
    // Each of these places states the contract of what it calls.
    let homes = [
        "crate/backend/cpu/lanes",
        "crate/backend/cpu/pool",
        "crate/backend/cpu/arena",
        "crate/backend/webgpu/",
        "native-metal/src/mmap",
    ];
    for path in files("crate", "rs").into_iter().chain(files("native-metal", "rs")).chain(files("web/bindings", "rs")) {
        let name = path.to_string_lossy().into_owned();
        let text = read(&path);
        if homes.iter().any(|h| name.starts_with(h)) {
            let blocks = text.matches("unsafe {").count();
            let reasons = text.matches("SAFETY:").count();
            assert!(reasons >= blocks, "{name}: {blocks} unsafe blocks, {reasons} SAFETY comments");
        } else {
            assert!(!text.contains("unsafe "), "{name}: unsafe code belongs in one of {homes:?}");
        }
    }
}

#[test]
fn the_core_asks_no_clock_no_disk_and_no_browser() {
    for path in files("crate", "rs") {
        // Examples in the docs are hosts.
        let text: String = read(&path).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for banned in ["std::time::Instant", "web_time", "std::fs", "std::net", "SystemTime", "wasm_bindgen"] {
            let browser_face = banned == "wasm_bindgen" && path.starts_with("crate/backend/webgpu");
            // How much the GPU does in a second decides nothing but how a step is cut.
            let budget = banned == "web_time" && path.ends_with("run/submit_budget.rs");
            assert!(browser_face || budget || !text.contains(banned), "{}: {banned} belongs in a host", path.display());
        }
    }
}
