//! Shaders that can be read: each file says what it is, each name is found by searching, and the README has the interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{files, read};

/// Functions and types of the language that our shaders call.
const BUILTINS: &[&str] = &[
    "abs",
    "array",
    "arrayLength",
    "atomicAdd",
    "atomicLoad",
    "atomicStore",
    "clamp",
    "countOneBits",
    "dot",
    "dot4I8Packed",
    "exp",
    "f32",
    "fma",
    "i32",
    "log",
    "max",
    "min",
    "pack2x16float",
    "pack4xI8",
    "round",
    "select",
    "sqrt",
    "storageBarrier",
    "transpose",
    "u32",
    "unpack2x16float",
    "unpack4xI8",
    "unpack4xU8",
    "workgroupBarrier",
    "workgroupUniformLoad",
];

/// Words before a parenthesis that call nothing.
const SYNTAX: &[&str] =
    &["binding", "builtin", "for", "group", "if", "main", "return", "switch", "while", "workgroup_size"];

/// Name without folder and extension, and the text without comments.
fn shaders() -> BTreeMap<String, String> {
    let all = files("shaders", "wgsl");
    let code = |p: &Path| read(p).lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
    let named: BTreeMap<_, _> =
        all.iter().map(|p| (p.file_stem().unwrap().to_str().unwrap().to_string(), code(p))).collect();
    assert_eq!(named.len(), all.len(), "two shaders have the same name in different folders");
    assert!(named.len() > 100, "found only {} shaders", named.len());
    named
}

fn rust_except(file: &str) -> String {
    files("crate/backend/webgpu", "rs").iter().filter(|p| !p.ends_with(file)).map(|p| read(p)).collect()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The names after `word ` in a text, as of functions after `fn `.
fn after<'a>(text: &'a str, word: &str) -> BTreeSet<&'a str> {
    text.split(word).skip(1).map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or("")).collect()
}

/// What a text calls: names before a parenthesis, those of members and attributes aside.
fn calls(text: &str) -> BTreeSet<&str> {
    let before = text.match_indices('(').map(|(at, _)| &text[..at]);
    let name = |before: &'_ str| before.rsplit(|c| !is_name(c)).next().unwrap_or("").len();
    let called = before.filter(|b| !b[..b.len() - name(b)].ends_with(['.', '@'])).map(|b| &b[b.len() - name(b)..]);
    called.filter(|n| !n.is_empty() && !SYNTAX.contains(n) && !BUILTINS.contains(n)).collect()
}

/// The name without the number of a matrix.
fn base(name: &str) -> &str {
    name.strip_suffix("_0").or(name.strip_suffix("_1")).unwrap_or(name)
}

#[test]
fn every_shader_says_what_it_is_and_is_used() {
    let list = read(Path::new("crate/backend/webgpu/shader/files.rs"));
    let rust = rust_except("files.rs");
    for path in files("shaders", "wgsl") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let listed = path.strip_prefix("shaders").unwrap().to_str().unwrap();
        assert!(list.contains(&format!("\"{listed}\"")), "{listed} is not in the list of files");
        assert!(rust.contains(&format!("\"{name}\"")), "{listed}: no kernel names it");
        assert!(read(&path).starts_with("// "), "{listed}: the first line is not a comment that says what it is");
    }
}

#[test]
fn every_function_that_a_shader_calls_is_found_by_its_name() {
    let shaders = shaders();
    let defined: BTreeSet<&str> =
        shaders.values().flat_map(|t| after(t, "fn ").into_iter().chain(after(t, "struct "))).collect();
    let aliases: BTreeSet<&str> = shaders.values().flat_map(|t| after(t, "alias ")).collect();
    let rust = rust_except("files.rs");
    let in_rust: BTreeSet<&str> = rust.split(|c| !is_name(c)).collect();
    let mut seen = 0;
    for (name, text) in &shaders {
        for called in calls(text) {
            let found = [&defined, &aliases, &in_rust].iter().any(|names| names.contains(base(called)));
            assert!(found, "{name} calls `{called}`, which is written nowhere");
            seen += 1;
        }
    }
    assert!(seen > 300, "found only {seen} calls");
}

#[test]
fn the_readme_of_the_shaders_has_every_name_that_files_agree_on() {
    let shaders = shaders();
    let readme = read(Path::new("shaders/README.md"));
    let told: BTreeSet<&str> = readme.split(|c| !is_name(c)).collect();
    let mut seen = 0;
    for (name, text) in &shaders {
        for called in calls(text).into_iter().map(base).filter(|c| !after(text, "fn ").contains(c)) {
            let homes = shaders.values().filter(|t| after(t, "fn ").contains(called)).count();
            let declared = shaders.values().any(|t| after(t, "struct ").contains(called));
            if homes != 1 && !declared {
                assert!(told.contains(called), "`{called}`, which {name} calls, is in no table of shaders/README.md");
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "found only {seen} names");
}
