//! Schemas, grammars, templates and requests of all kinds: each gives an error or something that works, in bounded memory.

mod requests;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use pagelm::ErrorKind;
use pagelm::api::{Job, Names};
use pagelm::grammar::{GrammarSource, Vocabulary};
use pagelm::text::ChatTemplate;

use requests::requests;

use super::*;
use crate::common::rng::Rng;
use crate::common::{alloc, bodies, byte_vocabulary};

/// Bytes that one input may take: grammars have caps of some megabytes, and what they are compiled to has a hundred times as
/// many.
const MOST_BYTES: usize = 600 << 20;

fn pick<'a>(rng: &mut Rng, all: &[&'a str]) -> &'a str {
    all[rng.below(all.len())]
}

/// What takes so long never ends: inputs take milliseconds.
const HANGS: Duration = Duration::from_secs(60);

/// Runs a seeded input after another, and says how many were taken.
fn rounds(name: &'static str, n: usize, mut one: impl FnMut(&mut Rng) -> bool) {
    let (round, watched) = mpsc::channel();
    let watch = std::thread::spawn(move || {
        let mut last = 0;
        loop {
            match watched.recv_timeout(HANGS) {
                Ok(round) => last = round,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    eprintln!("{name} {last} does not end");
                    std::process::exit(101);
                }
            }
        }
    });
    let mut taken = 0;
    for i in 0..n {
        round.send(i).unwrap();
        let mut rng = Rng::named(&format!("{name} {i}"));
        let (is_taken, bytes) = alloc::peak(|| one(&mut rng));
        assert!(bytes < MOST_BYTES, "{name} {i} takes {bytes} bytes");
        taken += usize::from(is_taken);
    }
    drop(round);
    watch.join().unwrap();
    println!("{name}: {taken} of {n} were taken");
    assert!(taken > 0 && taken < n, "{name}: {taken} of {n} were taken: nothing is tried");
}

/// Whether a grammar compiles; if it does, some tokens are drawn.
fn follow(rng: &mut Rng, vocabulary: &mut Vocabulary, source: &GrammarSource) -> bool {
    let fine = |e: &pagelm::Error| assert_eq!(e.kind(), ErrorKind::BadGrammar, "{e}: {source:?}");
    let mut m = match vocabulary.grammar(source) {
        Ok(grammar) => grammar.matcher(),
        Err(e) => {
            fine(&e);
            return false;
        }
    };
    for _ in 0..12 {
        let mask = match m.mask() {
            Ok(mask) => mask.to_vec(),
            Err(e) => {
                fine(&e);
                break;
            }
        };
        let allowed: Vec<u32> =
            (0..mask.len() as u32 * 32).filter(|id| mask[*id as usize / 32] >> (id % 32) & 1 == 1).collect();
        // Caps may end an answer, and a lexeme may lead nowhere.
        if allowed.is_empty() || m.accept(allowed[rng.below(allowed.len())]).is_err() {
            break;
        }
    }
    true
}

const KEYS: [&str; 34] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "$defs",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "not",
    "if",
    "uniqueItems",
    "description",
    "default",
    "x-guidance",
    "nullable",
];
const TEXTS: [&str; 26] = [
    "string",
    "integer",
    "number",
    "object",
    "array",
    "boolean",
    "null",
    "a",
    "b",
    "#",
    "#/$defs/a",
    "#/$defs/b",
    "#/properties/a",
    "^[a-z]+$",
    "a{3,900}",
    "(a|b)*c",
    "(a{90}){90}",
    "[",
    "date-time",
    "uuid",
    "ipv4",
    "email",
    "\u{0}",
    "é\"\\",
    "",
    "(?=a)",
];

/// JSON whose keys are mostly those of schemas.
fn value(rng: &mut Rng, depth: usize) -> Json {
    match rng.below(if depth == 0 { 5 } else { 12 }) {
        0 => [json!(null), json!(true), json!(false), json!([]), json!({})][rng.below(5)].clone(),
        1 => json!(rng.below(12) as i64 - 3),
        2 => [json!(1.5), json!(-1e300), json!(u64::MAX), json!(20_000), json!(1e-9)][rng.below(5)].clone(),
        3 | 4 => pick(rng, &TEXTS).into(),
        5 => (0..rng.below(4)).map(|_| value(rng, depth - 1)).collect(),
        6 => {
            let names = |rng: &mut Rng| ["a", "b", "c d", ""][rng.below(4)].to_owned();
            let all: serde_json::Map<_, _> = (0..rng.below(4)).map(|_| (names(rng), value(rng, depth - 1))).collect();
            all.into()
        }
        _ => schema(rng, depth - 1),
    }
}

fn schema(rng: &mut Rng, depth: usize) -> Json {
    let one = |rng: &mut Rng| {
        let key = pick(rng, &KEYS);
        // Often what the keyword takes.
        let fits = rng.below(4) > 0;
        let value = match key {
            "type" if fits => TEXTS[rng.below(7)].into(),
            "properties" | "$defs" | "patternProperties" if fits => {
                json!({ "a": value(rng, depth), "b": value(rng, depth) })
            }
            "required" if fits => json!(["a"]),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" if fits => json!([value(rng, depth), value(rng, depth)]),
            "items" | "additionalProperties" | "not" if fits && depth > 0 => schema(rng, depth - 1),
            _ => value(rng, depth),
        };
        (key.to_owned(), value)
    };
    let all: serde_json::Map<_, _> = (0..1 + rng.below(4)).map(|_| one(rng)).collect();
    all.into()
}

fn schemas(n: usize) {
    let mut vocabulary = Vocabulary::new(&byte_vocabulary::with(&[])).unwrap();
    rounds("schemas", n, |rng| {
        let text = schema(rng, 3).to_string();
        let source = if rng.below(3) == 0 { GrammarSource::JsonLike(text) } else { GrammarSource::JsonSchema(text) };
        follow(rng, &mut vocabulary, &source)
    });
}

const GBNF: [&str; 48] = [
    "root ::= ",
    "\nroot ::= ",
    "\na ::= ",
    "\nb ::= ",
    "a",
    "b",
    "root",
    " a ",
    " b ",
    " root ",
    "\"x\"",
    "\"xy\" ",
    "\"",
    "\"\"",
    "\"\\n\\x41\"",
    "[a-z]",
    "[^a]",
    "[^\\n]*",
    "[",
    "]",
    "[]",
    "[z-a]",
    "\\",
    "(",
    ")",
    "(\"a\" | b)",
    "|",
    " | ",
    "*",
    "+",
    "?",
    "{3}",
    "{2,}",
    "{0,90}",
    "{9999}",
    "{",
    "}",
    ".",
    "<x>",
    "<[65]>",
    "!<[65]>",
    "!",
    "#",
    "# c\n",
    "\n",
    "::=",
    "é",
    "\u{0}",
];
const LARK: [&str; 40] = [
    "start: ",
    "\nstart: ",
    "\nA: ",
    "\nB: ",
    "\na: ",
    "\nb: ",
    "A",
    "B",
    "a",
    "b",
    " A ",
    " b ",
    "\"x\"",
    "\"xy\"i",
    "/[a-z]+/",
    "/a{9}/",
    "/(?s:.*)/",
    "/(/",
    "(",
    ")",
    "[",
    "]",
    "|",
    "&",
    "~",
    "*",
    "+",
    "?",
    "~3",
    "~2..5",
    "\"a\"..\"z\"",
    "%json {\"type\": \"string\"}",
    "%ignore / /",
    "%import common.INT",
    "<[65]>",
    "<x>",
    "@part0",
    "%llguidance {\"allow_initial_skip\": true}",
    "// c\n",
    "{",
];

fn grammars(n: usize) {
    let mut vocabulary = Vocabulary::new(&byte_vocabulary::with(&[])).unwrap();
    rounds("grammars", n, |rng| {
        let pieces: &[&str] = if rng.below(4) == 0 { &LARK } else { &GBNF };
        let mut text = pieces[0].to_owned();
        (0..1 + rng.below(14)).for_each(|_| text.push_str(pick(rng, pieces)));
        let source = if pieces.len() == LARK.len() { GrammarSource::Lark(text) } else { GrammarSource::Gbnf(text) };
        follow(rng, &mut vocabulary, &source)
    });
}

const MARKERS: [&str; 26] = [
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "<parameter=",
    "<|tool_call_start|>",
    "<|tool_call>",
    "<|tool_call|>",
    "<function_calls>",
    "<｜tool▁calls▁begin｜>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "```tool_code",
    "<think>",
    "</think>",
    "\n",
    "{{ tools | tojson }}",
    "{{ messages | tojson }}",
    "{% for t in tools %}{{ t.function.name }}{% endfor %}",
    "{% if enable_thinking %}x{% endif %}",
    "{{ reasoning_effort }}",
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "{{ tools[0].function.parameters.properties | items }}",
    "{% raw %}",
    "{{",
    "<|im_start|>",
    "<|channel>",
];
const ROUTES: [&str; 5] = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank"];

fn templates(n: usize) {
    let tools = json!([{ "type": "function", "function": { "name": "a", "parameters": { "type": "object", "properties": { "b": {} } } } }]);
    let tools = pagelm::text::template::parse_json(&tools.to_string()).unwrap();
    let messages = pagelm::text::template::parse_json(r#"[{"role": "user", "content": "a"}]"#).unwrap();
    rounds("templates", n, |rng| {
        let mut source = bodies::template_source(&rng.bytes(20));
        (0..rng.below(3)).for_each(|_| source.push_str(pick(rng, &MARKERS)));
        let options = pagelm::text::RenderOptions {
            tools: Some(tools.clone()),
            add_generation_prompt: true,
            ..Default::default()
        };
        let text = ChatTemplate::new(&source).and_then(|template| template.render(&messages, &options));
        text.is_ok()
    });
}

#[test]
fn some_inputs_of_every_kind_are_refused_or_work() {
    schemas(300);
    grammars(600);
    requests(400);
    templates(300);
}

/// A million together.
#[test]
#[ignore = "takes half an hour: make test-slow"]
fn many_schemas_are_refused_or_compile() {
    schemas(150_000);
}

#[test]
#[ignore = "takes half an hour: make test-slow"]
fn many_grammars_are_refused_or_compile() {
    grammars(450_000);
}

#[test]
#[ignore = "takes half an hour: make test-slow"]
fn many_requests_are_refused_or_read() {
    requests(200_000);
}

#[test]
#[ignore = "takes half an hour: make test-slow"]
fn many_templates_are_refused_or_render() {
    templates(200_000);
}
