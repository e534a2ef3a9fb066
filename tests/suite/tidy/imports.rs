//! The import graph of `crate/`: which file uses what another file defines, read from `use` lines and paths.

use std::collections::{BTreeMap, BTreeSet};

use super::{files, read};

/// Modules that may import each other: the ops of the graph name values of the graph.
const MAY_CIRCLE: &[&str] = &["graph::fused", "graph::ir", "graph::op", "graph::rope"];

/// The storeys of the WebGPU backend, from the top. A file imports only from its own and from those below.
const STOREYS: &[&[&str]] =
    &[&["run"], &["prepare"], &["kernels"], &["shader"], &["dispatch"], &["device"], &["tuning"]];

/// A module's file: what its `use` lines bring in, by name, and all paths that it mentions, both from the root.
#[derive(Default)]
struct Module {
    names: BTreeMap<String, Vec<String>>,
    paths: Vec<Vec<String>>,
}

struct Modules(BTreeMap<String, Module>);

impl Modules {
    /// All of `crate/`. The root is the empty name.
    fn read() -> Self {
        let sources: BTreeMap<String, String> = files("crate", "rs")
            .iter()
            .map(|path| {
                let name = path.strip_prefix("crate").unwrap().with_extension("");
                let mut parts: Vec<_> = name.iter().map(|p| p.to_str().unwrap()).collect();
                if ["mod", "lib"].contains(parts.last().expect("a file has a name")) {
                    parts.pop();
                }
                (parts.join("::"), code(&read(path)))
            })
            .collect();
        let names: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
        Self(sources.iter().map(|(name, text)| (name.clone(), module(name, text, &names))).collect())
    }

    /// The module that defines what a path names: through modules as deep as there are, then through what they re-export.
    fn home(&self, path: &[String]) -> Option<String> {
        let depth = (0..=path.len()).rev().find(|n| self.0.contains_key(&path[..*n].join("::")))?;
        let module = path[..depth].join("::");
        let exported = path.get(depth).and_then(|name| self.0[&module].names.get(name));
        match exported {
            Some(further) if further[..] != path[..] => self.home(further),
            _ => Some(module),
        }
    }

    /// Which modules each one imports from, besides itself.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let of = |name: &str, m: &Module| {
            let homes = m.paths.iter().filter_map(|p| self.home(p));
            homes.filter(|home| home != name && !home.is_empty()).collect()
        };
        self.0.iter().filter(|(name, _)| !name.is_empty()).map(|(name, m)| (name.as_str(), of(name, m))).collect()
    }
}

/// The text without comments, strings that hold `//`, and tests.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn module(name: &str, text: &str, all: &BTreeSet<&str>) -> Module {
    let mut m = Module::default();
    let mut body = String::new();
    let mut rest = text;
    while let Some(i) = rest.find("use ") {
        let before = rest[..i].trim_end().trim_end_matches("pub").trim_end();
        let in_text = rest[..i].rsplit('\n').next().is_some_and(|line| line.contains('"'));
        let end = i + rest[i..].find(';').unwrap_or(rest.len() - i);
        body.push_str(&rest[..i]);
        if !in_text && (before.is_empty() || before.ends_with([';', '}', ']', ')', '{'])) {
            leaves(&rest[i + 4..end], &[], &mut |path, alias| {
                if let Some(path) = absolute(name, path, all) {
                    m.names.insert(alias.to_string(), path.clone());
                    m.paths.push(path);
                }
            });
            rest = &rest[end..];
        } else {
            rest = &rest[i + 4..];
        }
    }
    body.push_str(rest);
    for path in paths(&body) {
        m.paths.extend(absolute(name, path, all));
    }
    m
}

/// Each path of a `use` tree, and the name that it gets.
fn leaves(tree: &str, before: &[&str], found: &mut impl FnMut(Vec<String>, &str)) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let head: Vec<&str> = tree[..open].split("::").map(str::trim).filter(|s| !s.is_empty()).collect();
        let head = [before, &head].concat();
        let inner = tree[open + 1..].trim_end().strip_suffix('}').expect("a list of imports ends");
        let mut depth = 0;
        let ends = |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        };
        inner.split(ends).filter(|s| !s.trim().is_empty()).for_each(|part| leaves(part, &head, found));
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(p, a)| (p, Some(a.trim())));
    let mut path: Vec<&str> = [before, &path.split("::").map(str::trim).collect::<Vec<_>>()].concat();
    if path.len() > 1 && ["self", "*"].contains(path.last().expect("not empty")) {
        path.pop();
    }
    let last = path.last().copied().unwrap_or_default();
    found(path.iter().map(|s| (*s).to_string()).collect(), alias.unwrap_or(last));
}

/// Runs of names with `::` between them, as they stand in code.
fn paths(text: &str) -> impl Iterator<Item = Vec<String>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let runs = text.split(move |c: char| !is_name(c) && c != ':');
    runs.filter(|r| r.contains("::") && !r.starts_with(':'))
        .map(|r| r.trim_end_matches(':').split("::").map(str::to_string).collect())
}

/// A path from the root. `None` where it starts with neither a keyword nor a submodule.
fn absolute(module: &str, path: Vec<String>, all: &BTreeSet<&str>) -> Option<Vec<String>> {
    let mut at: Vec<String> = module.split("::").filter(|s| !s.is_empty()).map(str::to_string).collect();
    let mut rest = path.as_slice();
    match rest.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|s| s == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        first => {
            let child = [&at[..], &[first.to_string()]].concat().join("::");
            if !all.contains(child.as_str()) {
                return None;
            }
        }
    }
    Some([&at, rest].concat())
}

/// Groups of modules that reach each other.
pub(super) fn circles(imports: &BTreeMap<&str, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    let reach = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_string()]);
        while let Some(name) = next.pop() {
            for to in imports.get(name.as_str()).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = imports.keys().map(|name| (*name, reach(name))).collect();
    let circle = |name: &str| {
        let others = reached[name].iter().filter(|to| reached.get(to.as_str()).is_some_and(|r| r.contains(name)));
        others.cloned().collect::<Vec<_>>()
    };
    imports.keys().map(|name| circle(name)).filter(|c| !c.is_empty()).collect()
}

#[test]
fn no_files_of_the_crate_import_each_other_in_a_circle() {
    let modules = Modules::read();
    let imports = modules.imports();
    let edges: usize = imports.values().map(BTreeSet::len).sum();
    assert!(edges > 300, "found only {edges} imports: is the check still looking at the right text?");
    let all: Vec<_> = circles(&imports).into_iter().filter(|c| c != MAY_CIRCLE).collect();
    assert!(all.is_empty(), "these import each other: {all:#?}");
}

#[test]
fn imports_in_the_webgpu_backend_go_down_its_storeys() {
    let modules = Modules::read();
    let storey = |name: &str| {
        let part = name.strip_prefix("backend::webgpu::")?.split("::").next()?;
        Some(STOREYS.iter().position(|s| s.contains(&part)).unwrap_or_else(|| panic!("{name} is on no storey")))
    };
    let mut seen = 0;
    for (name, to) in modules.imports() {
        for (from, to, what) in to.iter().filter_map(|t| Some((storey(name)?, storey(t)?, t))) {
            assert!(from <= to, "{name} imports {what}, which lies above it");
            seen += 1;
        }
    }
    assert!(seen > 50, "found only {seen} imports between storeys");
}

#[test]
fn a_circle_is_found_through_re_exports_lists_and_plain_paths() {
    let sources = [
        ("", "pub mod a; pub mod b;"),
        ("a", "mod deep; pub use self::deep::{Thing, Other as Renamed};\nuse std::fmt;"),
        ("a::deep", "use crate::{b, error::{self, Error}};\nfn f() { b::g() }"),
        ("b", "pub fn g() { crate::a::Renamed::new(); }"),
        ("c", "// crate::d::x\nuse super::b::g;"),
        ("d", "use super::c as other;"),
    ];
    let names = sources.iter().map(|(n, _)| *n).collect();
    let modules = Modules(sources.iter().map(|(n, text)| ((*n).to_string(), module(n, &code(text), &names))).collect());
    let imports = modules.imports();
    assert_eq!(imports["b"], BTreeSet::from(["a::deep".to_string()]));
    assert_eq!(imports["c"], BTreeSet::from(["b".to_string()]));
    assert_eq!(circles(&imports), BTreeSet::from([vec!["a::deep".to_string(), "b".to_string()]]));
}
