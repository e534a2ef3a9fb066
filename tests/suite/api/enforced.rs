//! Calls and formats that grammars enforce: what they let through is read as what was asked for.

mod after_text;

use pagelm::api::{Api, Generate, Job, Names};
use pagelm::engine::{Event, StopReason, Usage};
use pagelm::grammar::{Grammar, Vocabulary};
use pagelm::text::{ChatTemplate, Tokenizer};
use serde_json::{Map, Value, json};

use super::given;
use crate::common::byte_vocabulary;
use crate::common::drawn::{draw, one_of, schema, ways_out};
use crate::common::rng::Rng;

const CHAT: &str = "/v1/chat/completions";

/// A format of calls: texts of its template, and which of its markers are tokens.
struct Format {
    markers: &'static [&'static str],
    controls: &'static [&'static str],
}

const fn format(markers: &'static [&'static str], controls: &'static [&'static str]) -> Format {
    Format { markers, controls }
}

/// Those of Hermes, Qwen, LFM2, Gemma, Phi, Granite, OLMo, DeepSeek, Mistral and Llama.
const FORMATS: [Format; 16] = [
    format(&["<tool_call>", "</tool_call>"], &[]),
    format(&["<tool_call>", "</tool_call>"], &["<tool_call>", "</tool_call>"]),
    format(&["<tool_call>", "</tool_call>", "<function=", "<parameter="], &[]),
    format(&["<function=", "<parameter="], &[]),
    format(&["<|tool_call_start|>", "<|tool_call_end|>"], &["<|tool_call_start|>", "<|tool_call_end|>"]),
    format(&["<|tool_call>", "<tool_call|>", "<|\"|>"], &["<|tool_call>", "<tool_call|>", "<|\"|>"]),
    format(&["<|tool_call>", "<tool_call|>", "<|\"|>"], &[]),
    format(
        &["<start_function_call>", "<end_function_call>", "<escape>"],
        &["<start_function_call>", "<end_function_call>", "<escape>"],
    ),
    format(&["<|tool_call|>", "<|/tool_call|>"], &["<|tool_call|>", "<|/tool_call|>"]),
    format(&["<|tool_call|>"], &["<|tool_call|>"]),
    format(&["<function_calls>", "</function_calls>"], &[]),
    format(
        &["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
        &[
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁sep｜>",
        ],
    ),
    format(&["[TOOL_CALLS]", "[ARGS]"], &["[TOOL_CALLS]", "[ARGS]"]),
    format(&["[TOOL_CALLS]"], &["[TOOL_CALLS]"]),
    format(&["```tool_code"], &[]),
    format(&["\"parameters\""], &["<|python_tag|>"]),
];

/// Texts that are one token, so that drawn answers get out of a text: a line break is Ċ in the vocabulary.
const TEXTS: [&str; 9] = [
    "Ċ</parameter>Ċ",
    "</function>",
    "</tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<tool_call>",
    "<function=",
    "</think>",
    "<|tool_call>",
];

struct Host {
    api: Api,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    out: Vec<u32>,
}

impl Host {
    /// With a template that ends in a text.
    fn new(format: &Format, more: &[&str], end: &str) -> Self {
        let controls: Vec<&str> = format.controls.iter().chain(more).copied().collect();
        let texts: Vec<&str> = TEXTS.into_iter().filter(|text| !controls.contains(text)).collect();
        let meta = byte_vocabulary::meta(&texts, &controls);
        let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
        let markers: String = format.markers.iter().chain(more).copied().collect();
        let markers = markers.replace('"', "\\\"");
        let source = format!(
            "{{% if false %}}{{{{ \"{markers}\" }}}}{{% endif %}}{{{{ tools | tojson }}}}{{{{ messages | tojson }}}}{end}"
        );
        let api = Api::new(&meta, tokenizer.clone().into(), Names::Any("m".into()), 0).unwrap();
        let api = api.with_template(ChatTemplate::new(&source).unwrap());
        let first = 258 + texts.len() as u32;
        let texts = 258..first;
        // The tokens of calls that end something, then the marks of JSON.
        let controls = (first..first + controls.len() as u32).rev();
        let [end, marks @ ..] = &ways_out(&tokenizer)[..] else { unreachable!("there are some") };
        let more = ["\"", ")", "]", "}", "<", "\n"].map(|text| u32::from(text.as_bytes()[0]));
        let out = [*end].into_iter().chain(texts).chain(controls).chain(marks.iter().copied()).chain(more).collect();
        Self { vocabulary: Vocabulary::new(&tokenizer).unwrap(), api, tokenizer, out }
    }

    fn generate(&self, body: &Value) -> Generate {
        let accepted = self.api.request("POST", CHAT, body.to_string().as_bytes(), &given());
        match accepted.unwrap_or_else(|e| panic!("{body}: {}", e.message)).job {
            Job::Generate(generate) => *generate,
            _ => panic!("it generates"),
        }
    }

    fn grammar(&mut self, body: &Value) -> Grammar {
        let source =
            self.generate(body).prompts[0].params.grammar.clone().unwrap_or_else(|| panic!("no grammar: {body}"));
        self.vocabulary.grammar(&source).unwrap_or_else(|e| panic!("{body}: {e}: {source:?}"))
    }

    /// The grammar of an answer that must call.
    fn forced(&mut self, body: &Value) -> Grammar {
        self.grammar(&super::with(body, json!({ "tool_choice": "required" })))
    }

    fn drawn(&mut self, rng: &mut Rng, grammar: &Grammar) -> String {
        draw(rng, &mut grammar.matcher(), &self.tokenizer, &self.out, &mut Vec::new())
    }

    /// The message of an answer with this text, which comes in pieces.
    fn message(&self, body: &Value, text: &str, piece: usize) -> Value {
        let mut answer = self.generate(body).answer;
        answer.start();
        let chars: Vec<char> = text.chars().collect();
        for part in chars.chunks(piece) {
            answer.push(0, Event::Token { id: 1, text: part.iter().collect(), logprobs: None });
        }
        let usage = Usage::default();
        answer.push(0, Event::Done { text: String::new(), reason: StopReason::EndOfSequence, usage });
        serde_json::from_str::<Value>(&answer.whole()).unwrap()["choices"][0]["message"].clone()
    }
}

fn tool(name: &str, parameters: &Value) -> Value {
    json!({ "type": "function", "function": { "name": name, "parameters": parameters, "strict": true } })
}

fn body(tools: &[Value], more: Value) -> Value {
    super::with(&json!({ "messages": [{ "role": "user", "content": "Hi" }], "tools": tools }), more)
}

/// Parameters that are drawn, some of them like those that programs have.
fn parameters(rng: &mut Rng) -> Value {
    let names = ["id", "name", "value", "list", "x-y", "über"];
    let n = rng.below(names.len());
    let plain = [
        json!({ "type": "string" }),
        json!({ "type": "string", "enum": ["celsius", "5", "a b"] }),
        json!({ "type": "string", "minLength": 2, "maxLength": 9 }),
        json!({ "type": ["string", "null"] }),
        json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] }),
        json!({ "$ref": "#/$defs/d" }),
        json!({}),
    ];
    let property = |rng: &mut Rng| if rng.below(2) == 0 { one_of(rng, &plain) } else { schema(rng, 2) };
    let properties: Map<_, _> = names[..n].iter().map(|name| ((*name).to_owned(), property(rng))).collect();
    let required: Vec<_> = names[..n].iter().filter(|_| rng.below(2) == 0).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        "$defs": { "d": { "type": "object", "properties": { "k": { "enum": ["v", 1] } }, "additionalProperties": false } } })
}

/// Checks the calls of a message against the tools, and returns how many there are.
fn check(message: &Value, tools: &[Value], text: &str) -> usize {
    let Some(calls) = message["tool_calls"].as_array() else { return 0 };
    for call in calls {
        let function = &call["function"];
        let tool = tools.iter().find(|tool| tool["function"]["name"] == function["name"]);
        let tool = tool.unwrap_or_else(|| panic!("{function} is a call of no tool: {text}"));
        let none = json!({ "type": "object", "maxProperties": 0 });
        let schema = Some(&tool["function"]["parameters"]).filter(|schema| schema.is_object()).unwrap_or(&none);
        let arguments = function["arguments"].as_str().unwrap();
        let value: Value = match serde_json::from_str(arguments) {
            Ok(value) => value,
            Err(e) if e.to_string().starts_with("number out of range") => continue,
            Err(e) => panic!("{e}: {arguments}: {text}"),
        };
        let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        let found: Vec<_> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(found.is_empty(), "{schema}: {arguments} of {text}: {found:?}");
    }
    calls.len()
}

#[test]
fn what_is_let_through_of_required_calls_is_read_as_calls_that_fit_their_schemas() {
    for (i, format) in FORMATS.iter().enumerate() {
        let mut rng = Rng::named(&format!("required {i}"));
        let mut host = Host::new(format, &[], "");
        let (mut total, mut several) = (0, 0);
        for round in 0..12 {
            let tools = [
                tool("get_weather", &parameters(&mut rng)),
                tool("add", &parameters(&mut rng)),
                tool("add.2-X", &Value::Null),
            ];
            let single = round % 3 == 0;
            let body = body(&tools, json!({ "tool_choice": "required", "parallel_tool_calls": !single }));
            let grammar = host.grammar(&body);
            for _ in 0..3 {
                let text = host.drawn(&mut rng, &grammar);
                let message = host.message(&body, &text, 1 + rng.below(9));
                let calls = check(&message, &tools, &text);
                assert!(calls > 0, "{:?}: no call in {text}: {message}", format.markers);
                assert!(!single || calls == 1, "{text}");
                assert_eq!(message["content"], Value::Null, "{text}");
                total += calls;
                several += usize::from(calls > 1);
            }
        }
        assert!(total > 36 && several > 0, "{:?}: {total} calls, {several} answers with several", format.markers);
    }
}

#[test]
fn a_named_tool_is_called_once_and_allowed_ones_are_the_only_ones() {
    for (i, format) in FORMATS.iter().enumerate() {
        let mut rng = Rng::named(&format!("named {i}"));
        let mut host = Host::new(format, &[], "");
        let tools = [tool("get_weather", &parameters(&mut rng)), tool("add", &parameters(&mut rng))];
        let name = json!({ "type": "function", "function": { "name": "add" } });
        let allowed = json!({ "type": "allowed_tools", "allowed_tools": { "mode": "required", "tools": [name] } });
        for (choice, most) in [(name, 1), (allowed, 16)] {
            let body = body(&tools, json!({ "tool_choice": choice }));
            let grammar = host.grammar(&body);
            for _ in 0..5 {
                let text = host.drawn(&mut rng, &grammar);
                let message = host.message(&body, &text, 3);
                assert!((1..=most).contains(&check(&message, &tools[1..], &text)), "{text}");
            }
        }
    }
}

#[test]
fn reasoning_comes_first_where_the_prompt_or_the_model_starts_it() {
    let schema = json!({ "type": "object", "properties": { "a": { "enum": ["x", "yy"] } }, "required": ["a"], "additionalProperties": false });
    let response_format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    let tools = [tool("add", &schema)];
    for controls in [&["<think>", "</think>"][..], &[]] {
        for (end, opens) in [("<think>\\n", true), ("", false)] {
            let mut rng = Rng::named("reasoning");
            let mut format = format(&["<tool_call></tool_call><think></think>"], &[]);
            format.controls = if controls.is_empty() { &[] } else { &["<think>", "</think>"] };
            let mut host = Host::new(&format, &[], &format!("{{{{ '{end}' }}}}"));
            let (mut thought, mut silent) = (0, 0);
            for (more, calls) in [
                (json!({ "response_format": response_format, "tools": [] }), false),
                (json!({ "tool_choice": "required" }), true),
                (json!({ "grammar": "root ::= \"{\\\"a\\\": \\\"x\\\"}\"", "tools": null }), false),
            ] {
                let body = body(&tools, more);
                let grammar = host.grammar(&body);
                for _ in 0..8 {
                    let text = host.drawn(&mut rng, &grammar);
                    let message = host.message(&body, &text, 1 + rng.below(5));
                    assert_eq!(check(&message, &tools, &text) > 0, calls, "{text}");
                    if !calls {
                        let value: Value = serde_json::from_str(message["content"].as_str().unwrap()).unwrap();
                        assert!(value == json!({ "a": "x" }) || value == json!({ "a": "yy" }), "{text}");
                    }
                    thought += usize::from(message["reasoning_content"].is_string());
                    silent += usize::from(message["reasoning_content"].is_null());
                }
            }
            assert!(thought > 0 && (opens || silent > 0), "{thought} {silent}");
        }
    }
}

#[test]
fn an_answer_may_call_or_have_its_format() {
    let mut rng = Rng::named("both");
    let mut host = Host::new(&FORMATS[0], &[], "");
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"], "additionalProperties": false });
    let response_format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    let tools = [tool("add", &schema)];
    let body = body(&tools, json!({ "response_format": response_format }));
    let grammar = host.grammar(&body);
    let (mut called, mut said) = (0, 0);
    for _ in 0..40 {
        let text = host.drawn(&mut rng, &grammar);
        let message = host.message(&body, &text, 4);
        match check(&message, &tools, &text) {
            0 => {
                said += 1;
                let value: Value = serde_json::from_str(message["content"].as_str().unwrap()).unwrap();
                assert!(value["a"].is_number(), "{text}");
            }
            _ => called += 1,
        }
    }
    assert!(called > 0 && said > 0, "{called} {said}");
}

#[test]
fn what_cannot_be_enforced_is_refused_by_its_name() {
    let host = Host::new(&FORMATS[4], &[], "");
    let object = json!({ "type": "object", "properties": {} });
    let bad = json!({ "type": "object", "properties": { "a b": { "type": "string" } } });
    let required = || json!({ "tool_choice": "required" });
    for (body, param) in [
        (body(&[tool("a b", &object)], required()), "tools[0].function.name"),
        (body(&[tool("a", &object), tool("b", &bad)], required()), "tools[1].function.parameters"),
        (body(&[tool("a", &json!({ "type": "array" }))], required()), "tools[0].function.parameters"),
        (
            body(&[tool("a", &object)], json!({ "tool_choice": { "type": "function", "function": { "name": "b" } } })),
            "tool_choice",
        ),
        (body(&[], required()), "tool_choice"),
        (body(&[tool("a", &object)], json!({ "tool_choice": "some" })), "tool_choice"),
        (body(&[tool("a", &object)], json!({ "tool_choice": { "type": "custom" } })), "tool_choice.type"),
        (body(&[], json!({ "grammar": "root ::= \"a\"", "response_format": { "type": "json_object" } })), "grammar"),
        (body(&[], json!({ "grammar": "root ::= \"a\"", "grammar_type": "lark" })), "grammar_type"),
        (body(&[], json!({ "grammar_type": "gbnf" })), "grammar_type"),
    ] {
        let e = host
            .api
            .request("POST", CHAT, body.to_string().as_bytes(), &given())
            .err()
            .unwrap_or_else(|| panic!("{body}"));
        assert_eq!((e.status, e.param.as_deref()), (400, Some(param)), "{}", e.message);
    }
    // A schema that cannot be compiled is found when the grammar is, and named.
    let mut host = Host::new(&FORMATS[0], &[], "");
    let unique = json!({ "type": "object", "properties": { "a": { "type": "array", "uniqueItems": true } } });
    let strict = body(&[tool("a", &object), tool("b", &unique)], required());
    let source = host.generate(&strict).prompts[0].params.grammar.clone().unwrap();
    let e = host.vocabulary.grammar(&source).err().unwrap();
    assert_eq!(e.place(), "tools[1].function.parameters");
    assert!(e.detail().contains("uniqueItems"), "{e}");
    let mut loose = strict;
    loose["tools"][1]["function"]["strict"] = false.into();
    host.grammar(&loose);
}
