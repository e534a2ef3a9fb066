//! The shapes that cross between engine and page: TypeScript's copies have the fields and names that Rust's have.

use std::collections::BTreeMap;
use std::path::Path;

use super::read;

const CHOOSE: &str = "crate/engine/choose.rs";
const OPTIONS: &str = "web/bindings/src/options.rs";
const BINDINGS: &str = "web/src/worker/bindings.d.ts";
const PROTOCOL: &str = "web/src/shared/protocol.ts";
const TYPES: &str = "web/src/shared/types.ts";
const OUTPUTS: &str = "web/src/shared/outputs.ts";

/// A struct of Rust, and the interfaces that have its fields together.
type Shape = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// What the engine tells. Where Rust has an `Option`, TypeScript has null or nothing.
const TOLD: &[Shape] = &[
    ("web/bindings/src/header.rs", "Info", &[(TYPES, "ModelInfo")]),
    ("web/bindings/src/embed.rs", "Embeddings", &[(OUTPUTS, "Embeddings")]),
    ("crate/backend/sampling.rs", "Logprobs", &[(OUTPUTS, "Logprobs")]),
    ("web/bindings/src/engine.rs", "Stats", &[(TYPES, "EngineStats")]),
    ("web/bindings/src/engine.rs", "Held", &[(TYPES, "Held")]),
    ("web/bindings/src/generate.rs", "News", &[(BINDINGS, "News")]),
    ("web/bindings/src/generate.rs", "Requested", &[(BINDINGS, "Requested")]),
    ("web/bindings/src/generate.rs", "FileOf", &[(BINDINGS, "Picture")]),
    ("web/bindings/src/value.rs", "Problem", &[("web/src/shared/errors.ts", "ErrorData")]),
    ("crate/backend/mod.rs", "Counters", &[(TYPES, "Counters")]),
    ("crate/backend/mod.rs", "Memory", &[(TYPES, "Memory")]),
    ("crate/hub.rs", "HubFile", &[(BINDINGS, "HubFile")]),
    ("crate/backend/webgpu/device.rs", "AdapterInfo", &[(TYPES, "AdapterInfo")]),
    ("crate/engine/fit.rs", "Fit", &[(TYPES, "Fit")]),
    ("crate/engine/fit.rs", "Change", &[(TYPES, "Change")]),
    ("crate/engine/profile.rs", "Profile", &[(TYPES, "Profile")]),
    ("crate/engine/profile.rs", "KernelTime", &[(TYPES, "KernelTime")]),
    ("crate/engine/file_sampling.rs", "FileSampling", &[(TYPES, "FileSampling")]),
    ("crate/engine/events.rs", "Usage", &[(OUTPUTS, "GenerateUsage")]),
    ("crate/engine/stats.rs", "Speculated", &[(OUTPUTS, "Speculated")]),
    (CHOOSE, "Choice", &[(BINDINGS, "Choice")]),
];

/// What the engine is given. It refuses fields that it does not know.
const GIVEN: &[Shape] = &[
    (OPTIONS, "EngineOptions", &[(BINDINGS, "OpenOptions"), (PROTOCOL, "WireOptions"), (TYPES, "ModelOptions")]),
    (CHOOSE, "HostFacts", &[(BINDINGS, "HostFacts")]),
    ("crate/backend/adapter.rs", "AdapterFacts", &[(BINDINGS, "AdapterFacts")]),
    (OPTIONS, "ProfileOptions", &[(BINDINGS, "ProfileOptions")]),
    (OPTIONS, "Chat", &[(PROTOCOL, "Chat")]),
    ("crate/text/tokenizer.rs", "EncodeOptions", &[(PROTOCOL, "TokenizeOptions")]),
    ("crate/engine/generate.rs", "GenerateParams", &[(PROTOCOL, "WireParams")]),
    ("crate/engine/embed.rs", "EmbedParams", &[(OUTPUTS, "EmbedParams")]),
    ("crate/engine/speculate.rs", "SpeculateParams", &[(OUTPUTS, "SpeculateParams")]),
    ("crate/engine/sampler.rs", "SamplerParams", &[(OUTPUTS, "SamplingParams")]),
];

/// Enums whose names cross, and TypeScript's types of the same strings.
const NAMES: &[(&str, &str, &str)] = &[
    (CHOOSE, "BackendName", "BackendName"),
    ("crate/backend/mod.rs", "KvType", "KvType"),
    ("crate/arch/pooling.rs", "Pooling", "Pooling"),
    ("crate/engine/events.rs", "StopReason", "StopReason"),
];

/// The lines between the braces of a definition that starts with `head`, and the line before it.
fn body(file: &str, head: &str) -> (String, Vec<String>) {
    let text = read(Path::new(file));
    let lines: Vec<_> = text.lines().collect();
    let is_head = |line: &&str| line.split_once(head).is_some_and(|(_, rest)| !rest.starts_with(char::is_alphanumeric));
    let start = lines.iter().position(is_head).unwrap_or_else(|| panic!("{file} has no `{head}`"));
    let end = start + lines[start..].iter().position(|l| l.starts_with('}')).expect("a definition ends");
    (lines[start - 1].to_owned(), lines[start + 1..end].iter().map(|l| (*l).to_owned()).collect())
}

/// Name and type of each field that starts a line `indent` spaces in.
fn fields(lines: &[String], indent: usize) -> Vec<(String, String)> {
    let field = |line: &String| {
        let line = line.strip_prefix(&" ".repeat(indent))?;
        let (name, kind) = line.strip_prefix("pub ").unwrap_or(line).split_once(": ")?;
        let plain = name.trim_end_matches('?').chars().all(|c| c.is_alphanumeric() || c == '_');
        plain.then(|| (name.to_owned(), kind.to_owned()))
    };
    lines.iter().filter_map(field).collect()
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + &part[..1].to_uppercase() + &part[1..])
}

/// Whether each field may be missing, by the name with which it crosses, of Rust and of TypeScript.
fn both((file, name, faces): &Shape) -> (String, BTreeMap<String, bool>, BTreeMap<String, bool>) {
    let (attributes, lines) = body(file, &format!("struct {name}"));
    let rust: Vec<_> = fields(&lines, 4);
    let long = rust.iter().any(|(name, _)| name.contains('_'));
    assert!(
        !long || attributes.contains("rename_all = \"camelCase\""),
        "{file}: {name} crosses with its names of Rust"
    );
    let rust = rust.iter().map(|(name, kind)| (camel(name), kind.starts_with("Option<"))).collect();
    let typescript = faces.iter().flat_map(|(file, name)| fields(&body(file, &format!("interface {name}")).1, 2));
    let may_miss = |(name, kind): (String, String)| {
        (name.trim_end_matches('?').to_owned(), name.ends_with('?') || kind.contains("| null"))
    };
    (attributes, rust, typescript.map(may_miss).collect())
}

#[test]
fn what_the_engine_tells_has_the_shape_that_the_page_believes() {
    for shape in TOLD {
        let (_, rust, typescript) = both(shape);
        assert!(!rust.is_empty(), "{}: {} has no fields", shape.0, shape.1);
        assert_eq!(rust, typescript, "{} (Rust, left) and {:?}: fields, and which may be missing", shape.1, shape.2);
    }
}

#[test]
fn what_the_engine_is_given_has_the_fields_that_it_reads() {
    for shape in GIVEN {
        let (attributes, rust, typescript) = both(shape);
        assert!(attributes.contains("deny_unknown_fields"), "{}: {} takes unknown fields", shape.0, shape.1);
        let (rust, typescript): (Vec<_>, Vec<_>) = (rust.keys().collect(), typescript.keys().collect());
        assert!(!rust.is_empty(), "{}: {} has no fields", shape.0, shape.1);
        assert_eq!(rust, typescript, "{} (Rust, left) and {:?}", shape.1, shape.2);
    }
}

/// The strings of a type of TypeScript.
fn strings(name: &str) -> Vec<String> {
    let text = read(Path::new(TYPES)) + &read(Path::new(OUTPUTS));
    let line = text.split_once(&format!("export type {name} =")).expect(name).1.split(';').next().unwrap_or_default();
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn kebab(name: &str) -> String {
    let dashed = |c: char| if c.is_uppercase() { format!("-{}", c.to_lowercase()) } else { c.to_string() };
    name.chars().map(dashed).collect::<String>().trim_start_matches('-').to_owned()
}

#[test]
fn names_that_cross_are_the_same_strings() {
    for (file, name, face) in NAMES {
        let (_, lines) = body(file, &format!("enum {name}"));
        let variants = lines.iter().filter_map(|l| l.trim().strip_suffix(','));
        let mut rust: Vec<_> = variants.map(kebab).collect();
        let mut typescript = strings(face);
        rust.sort();
        typescript.sort();
        assert_eq!(rust, typescript, "{name} (Rust, left) and {face}");
    }
}

#[test]
fn events_of_a_generation_are_the_pieces_that_the_page_takes_apart() {
    let (_, lines) = body("crate/engine/events.rs", "enum Event");
    let names = |fields: &str, by: char| -> Vec<String> {
        fields
            .split(by)
            .filter_map(|f| f.split_once(':'))
            .map(|(name, _)| camel(name.trim().trim_end_matches('?')))
            .collect()
    };
    let variant = |line: &String| {
        let (name, fields) = line.trim().strip_suffix(" },")?.split_once(" { ")?;
        Some((kebab(name), names(fields, ',')))
    };
    let rust: BTreeMap<_, _> = lines.iter().filter_map(variant).collect();
    let text = read(Path::new(OUTPUTS));
    let union = text.split_once("export type Piece =").expect("a type of pieces").1.split_once("};").unwrap().0;
    let piece = |line: &str| {
        let (kind, fields) = line.split_once("{ kind: \"")?.1.split_once("\"; ")?;
        Some((kind.to_owned(), names(fields.trim_end_matches(" }"), ';')))
    };
    let typescript: BTreeMap<_, _> = union.lines().filter_map(piece).collect();
    assert!(rust.len() >= 3, "found only {rust:?}");
    assert_eq!(rust, typescript);
}
