//! Chat templates against what transformers renders, and against templates that attack the page.

use std::time::Instant;

use pagelm::text::template::{TemplateValue, parse_json};
use pagelm::text::{ChatTemplate, RenderOptions};
use pagelm::{Error, ErrorKind};
use serde_json::{Value, json};

use super::text_chat;
use crate::common::conversation::{NOW, options, value};
use crate::common::fixtures;

/// Features that are known to differ: macros have no `varargs` and `kwargs`; an attribute of a map is its item, where
/// Python prints the address of the method.
const DIFFERENT: [&str; 2] = ["macro", "attribute or item"];

/// What is wrong with a result, if anything.
fn judge(want: &Value, got: Result<String, Error>) -> Option<String> {
    match (want["rendered"].as_str(), want["error"].as_str(), got) {
        (Some(want), _, Ok(got)) if want == got => None,
        (None, Some("raised"), Err(e))
            if e.kind() == ErrorKind::TemplateRaised && Some(e.detail()) == want["message"].as_str() =>
        {
            None
        }
        (None, Some("undefined" | "python" | "syntax" | "security"), Err(e)) if e.kind() == ErrorKind::BadTemplate => {
            None
        }
        (_, _, got) => Some(format!("\n  want {want}\n  got  {got:?}")),
    }
}

#[test]
fn published_templates_render_as_transformers_does() {
    let data = fixtures::json("reference/templates.json");
    let (mut passed, mut wrong) = (0, Vec::new());
    for (name, template) in data["templates"].as_object().unwrap() {
        let compiled =
            ChatTemplate::new(template["template"].as_str().unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (conversation, want) in template["cases"].as_object().unwrap() {
            let chat = &data["conversations"][conversation];
            let got = compiled.render(&value(&chat["messages"]), &options(chat, template));
            match judge(want, got) {
                None => passed += 1,
                Some(what) => wrong.push(format!("{name}, {conversation}: {what}")),
            }
        }
    }
    eprintln!("templates: {passed} cases");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(12)].join("\n"));
}

/// Templates that write an answer into the next prompt other than it was generated: they leave out the block of reasoning,
/// empty or not, with which the prompt of the answer ended.
const REWRITES: [&str; 7] = [
    "deepseek-r1-distill-qwen-32b",
    "deepseek-r1-distill-qwen-32b, off",
    "qwen3-0.6b, off",
    "qwen3.5-4b",
    "qwen3.5-4b, off",
    "qwq-32b",
    "qwq-32b, off",
];

#[test]
fn a_prompt_and_its_answer_begin_the_next_prompt_unless_the_template_rewrites_answers() {
    let data = fixtures::json("reference/templates.json");
    let mut rewrites = Vec::new();
    for (name, template) in data["templates"].as_object().unwrap() {
        let compiled = ChatTemplate::new(template["template"].as_str().unwrap()).unwrap();
        for (how, enabled) in [("", None), (", off", Some(false))] {
            // Where there is no such switch it changes nothing.
            if enabled.is_some() && !compiled.mentions("enable_thinking") {
                continue;
            }
            let mut messages = json!([{ "role": "user", "content": "How are you?" }]);
            let render = |messages: &Value| {
                let variables = enabled.map(|on| ("enable_thinking".to_owned(), TemplateValue::from(on)));
                let options = RenderOptions {
                    add_generation_prompt: true,
                    variables: variables.into_iter().collect(),
                    ..options(&Value::Null, template)
                };
                compiled.render(&value(messages), &options).unwrap_or_else(|e| panic!("{name}: {e}"))
            };
            let first = render(&messages);
            messages.as_array_mut().unwrap().extend([
                json!({ "role": "assistant", "content": "Fine." }),
                json!({ "role": "user", "content": "And now?" }),
            ]);
            if !render(&messages).starts_with(&format!("{first}Fine.")) {
                rewrites.push(format!("{name}{how}"));
            }
        }
    }
    rewrites.sort();
    assert_eq!(rewrites, REWRITES);
}

#[test]
fn language_features_render_as_jinja_does() {
    let data = fixtures::json("reference/templates.json");
    let features = &data["features"];
    let variables = features["variables"].as_object().unwrap();
    let options = RenderOptions {
        now: Some(NOW),
        variables: variables.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
        ..Default::default()
    };
    let (mut passed, mut wrong) = (0, Vec::new());
    for case in features["cases"].as_array().unwrap() {
        let source = case["template"].as_str().unwrap();
        let got = ChatTemplate::new(source).and_then(|t| t.render(&TemplateValue::from(()), &options));
        match judge(case, got) {
            None => passed += 1,
            Some(_) if DIFFERENT.contains(&case["name"].as_str().unwrap()) => {}
            Some(what) => wrong.push(format!("{}: {what}", case["name"])),
        }
    }
    eprintln!("template features: {passed} cases, {} known to differ", DIFFERENT.len());
    assert_eq!(passed + DIFFERENT.len() + wrong.len(), features["cases"].as_array().unwrap().len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn render(source: &str) -> Result<String, Error> {
    let messages = parse_json(r#"[{"role": "user", "content": "hi"}]"#).unwrap();
    ChatTemplate::new(source)?.render(&messages, &RenderOptions::default())
}

/// Each on a stack as small as a page's, where too deep a recursion would end the process.
fn attack(name: &str, source: String) {
    for shadowed in [false, true] {
        let start = Instant::now();
        let source = source.clone();
        let run = move || if shadowed { text_chat::render_all_signs(&source) } else { render(&source) };
        let result = std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().expect("no panic");
        let took = start.elapsed();
        let what = result.as_ref().map_or_else(|e| e.to_string(), |s| format!("{} bytes", s.len()));
        eprintln!("{name}: {took:?}: {what}");
        let got = result.map(|s| s.len()).map_err(|e| e.kind());
        assert_eq!(got, Err(ErrorKind::TemplateLimit), "{name}, shadowed: {shadowed}");
        assert!(took.as_secs() < 5, "{name} took {took:?}");
    }
}

#[test]
fn a_template_cannot_run_forever() {
    let nested = "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}";
    let ends = "{% endfor %}{% endfor %}{% endfor %}";
    attack("nested loops", format!("{nested}{ends}"));
    attack("loops that print", format!("{nested}x{ends}"));
    attack("endless macro", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into());
    attack(
        "macro tree",
        "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(25) }}".into(),
    );
    attack("recursive loop", "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}".into());
    attack("huge range", "{{ range(10 ** 12) | list | length }}".into());
    let loops = |body: &str| format!("{{% set s = 'x' * 4000000 %}}{{% for i in range(100000) %}}{body}{{% endfor %}}");
    attack("search in a long string", loops("{% if 'y' in s %}{% endif %}"));
    attack("index into a long string", loops("{% set c = s[-1] %}"));
    attack("slice of a long string", loops("{% set c = s[:1] %}"));
    attack("filter on a long string", loops("{% if s | trim %}{% endif %}"));
    attack("method on a long string", loops("{% if s.endswith('y') %}{% endif %}"));
    attack("test on a long string", loops("{% if s is lower %}{% endif %}"));
    attack("comparison of long strings", loops("{% if s == s ~ '' %}{% endif %}"));
    attack("filter on a list of long strings", loops("{% if [s, s] | sort %}{% endif %}"));
    attack("chained comparison", loops("{% if s == s == s %}{% endif %}"));
}

#[test]
fn a_template_cannot_fill_the_memory() {
    let forty =
        |body: &str| format!("{{% set ns = namespace(s='x', l=[1]) %}}{{% for i in range(40) %}}{body}{{% endfor %}}");
    attack("repeated string", "{{ 'x' * 10 ** 9 }}".into());
    attack("repeated list", "{{ [1] * 10 ** 9 }}".into());
    attack("doubling by ~", forty("{% set ns.s = ns.s ~ ns.s %}"));
    attack("doubling by +", forty("{% set ns.s = ns.s + ns.s %}"));
    attack("doubling a list", forty("{% set ns.l = ns.l + ns.l %}") + "{{ ns.l | length }}");
    attack("doubling by nesting", forty("{% set ns.l = [ns.l, ns.l] %}") + "{{ ns.l }}");
    attack("doubling by a tuple", forty("{% set ns.l = (ns.l, ns.l) %}"));
    attack("doubling by a map", forty("{% set ns.l = {'a': ns.l, 'b': ns.l} %}"));
    attack("doubling in a block", "{% set s = 'x' %}".to_owned() + &"{% set s %}{{ s }}{{ s }}{% endset %}".repeat(40));
    attack("doubling in lines", "{% set s = 'x' %}".to_owned() + &"{% set s = s ~ s %}".repeat(40));
    attack("doubling by join", forty("{% set ns.s = [ns.s, ns.s] | join %}"));
    attack("doubling by format", forty("{% set ns.s = '%s%s' | format(ns.s, ns.s) %}"));
    attack("doubling by .format", forty("{% set ns.s = '{}{}'.format(ns.s, ns.s) %}"));
    attack("doubling by .replace", forty("{% set ns.s = ns.s.replace('x', 'xx') %}"));
    attack(
        "doubling by a macro",
        "{% macro f(s, n) %}{% if n %}{{ f(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ f('x', 40) }}".into(),
    );
    attack("replace of nothing", "{% set s = 'x' * 100000 %}{{ s | replace('', s) }}".into());
    attack("join of a range", "{{ range(100000) | join('x' * 100000) }}".into());
    attack("join in a method", "{{ ('x' * 100000).join('y' * 100000) }}".into());
    attack("indent", "{{ 'x' | indent(10 ** 10, true) }}".into());
    attack("indent by name", "{{ 'x' | indent(width=10 ** 10, first=true) }}".into());
    attack("indent by map", "{{ ['x'] | map('indent', 10 ** 10, true) | list }}".into());
    attack("replace by map", "{% set s = 'x' * 100000 %}{{ [s] | map('replace', '', s) | list }}".into());
    attack(
        "replace in a filter block",
        "{% set s = 'x' * 100000 %}{% filter replace('', s) %}{{ s }}{% endfilter %}".into(),
    );
    attack("indented JSON", "{{ [[1]] | tojson(indent=10 ** 10) }}".into());
    attack("JSON with long separators", "{{ ([1] * 100000) | tojson(separators=('x' * 100000, ':')) }}".into());
    attack("width of a format", "{{ '%1000000000d' | format(1) }}".into());
    attack("width in an argument", "{{ '%*d' | format(1000000000, 1) }}".into());
    attack("width in .format", "{{ '{:>1000000000}'.format('x') }}".into());
    attack("batches", "{{ [1] | batch(10 ** 10, 'x') | list }}".into());
    attack("slices", "{{ [1] | slice(10 ** 10) | list }}".into());
    attack("characters", "{{ ('x' * 10000000) | list | length }}".into());
    attack("pieces", "{{ (',' * 10000000).split(',') | length }}".into());
    attack(
        "literal text in a block",
        format!("{{% set s %}}{{% for i in range(100000) %}}{}{{% endfor %}}{{% endset %}}", "x".repeat(100_000)),
    );
    attack("literal text", format!("{{% for i in range(100000) %}}{}{{% endfor %}}", "x".repeat(100_000)));
    attack(
        "keeping all strings",
        forty("{% for j in range(100000) %}{% set ns.l = ns.l + ['x' * 1000000 ~ j] %}{% endfor %}"),
    );
    attack("source", " ".repeat(10 << 20));
}

#[test]
fn a_template_cannot_overflow_the_stack() {
    let deep =
        |body: &str| format!("{{% set ns = namespace(l=[]) %}}{{% for i in range(100000) %}}{body}{{% endfor %}}");
    attack("nested lists", deep("{% set ns.l = [ns.l] %}"));
    attack("nested tuples", deep("{% set ns.l = (ns.l,) %}"));
    attack("nested maps", deep("{% set ns.l = {'l': ns.l} %}"));
    attack("nested namespaces", deep("{% set ns.l = namespace(l=ns.l) %}"));
    attack("nested dicts", deep("{% set ns.l = dict(l=ns.l) %}"));
    attack("nested batches", deep("{% set ns.l = [ns.l] | batch(1) | list %}"));
    attack("a namespace in itself", "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}".into());
    for what in ["ns | dictsort", "ns | items", "[ns] | sort", "ns.get(ns)", "ns in ns", "{ns: 1}", "dict(ns)"] {
        let source = format!("{{% set ns = namespace() %}}{{% set ns.x = ns %}}{{{{ [{what}] | string }}}}");
        attack(&format!("{what} of a namespace in itself"), source);
    }
    attack(
        "comparing a namespace in itself",
        "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns == namespace(x=ns) }}".into(),
    );
    attack("parentheses", format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000)));
    attack("blocks", format!("{}{}", "{% if true %}".repeat(10_000), "{% endif %}".repeat(10_000)));
}

#[test]
fn lazy_results_do_not_pile_up() {
    let source = "{% set ns = namespace(l=[1, 2]) %}{% for i in range(5000) %}{% set ns.l = ns.l[0:] | reverse | list %}{% endfor %}";
    assert_eq!(render(&format!("{source}{{{{ ns.l }}}}")).unwrap(), "[1, 2]");
}

/// Renders a chat of `turns` questions and answers, each answer `padding` bytes longer, with every template.
fn long_chat(turns: usize, padding: usize) {
    let data = fixtures::json("reference/templates.json");
    let answer = format!("There is much to tell.{}", " And so on.".repeat(padding / 11));
    let turn =
        format!(r#"{{"role": "user", "content": "Tell me more."}}, {{"role": "assistant", "content": "{answer}"}}"#);
    let messages = parse_json(&format!("[{}]", vec![turn; turns].join(","))).unwrap();
    for (name, template) in data["templates"].as_object().unwrap() {
        let compiled = ChatTemplate::new(template["template"].as_str().unwrap()).unwrap();
        let start = Instant::now();
        let options = || options(&Value::Null, template);
        for text in [compiled.render(&messages, &options()), text_chat::text_all_signs(&compiled, &messages, options())]
        {
            let text = text.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(text.matches("much to tell").count() == turns, "{name}");
        }
        eprintln!("{name}: {turns} turns in {:?}", start.elapsed());
    }
}

#[test]
fn a_long_chat_stays_within_the_limits() {
    long_chat(1000, 0);
}

#[test]
fn a_chat_of_two_megabytes_stays_within_the_limits() {
    long_chat(200, 10_000);
}

#[test]
fn a_template_reaches_nothing_outside_of_itself() {
    for source in
        ["{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{{ debug() }}", "{{ 'op +'(1, 2) }}"]
    {
        assert_eq!(render(source).unwrap_err().kind(), ErrorKind::BadTemplate, "{source}");
    }
}

#[test]
fn without_a_clock_a_template_finds_no_time() {
    assert_eq!(render("{% if strftime_now is defined %}yes{% else %}no{% endif %}").unwrap(), "no");
}

#[test]
fn templates_are_found_in_the_metadata() {
    use pagelm::gguf::{Meta, Value};
    let mut meta = Meta::default();
    assert_eq!(ChatTemplate::from_gguf(&meta).unwrap_err().kind(), ErrorKind::NoTemplate);
    meta.insert("tokenizer.chat_template".into(), Value::String("a{{ bos_token }}".into()));
    meta.insert("tokenizer.chat_template.tool_use".into(), Value::String("b".into()));
    let options = RenderOptions { bos_token: "<s>".into(), ..Default::default() };
    let none = TemplateValue::from(());
    assert_eq!(ChatTemplate::from_gguf(&meta).unwrap().render(&none, &options).unwrap(), "a<s>");
    assert_eq!(ChatTemplate::names(&meta), ["tool_use"]);
    assert_eq!(ChatTemplate::named(&meta, "tool_use").unwrap().render(&none, &options).unwrap(), "b");
    assert_eq!(ChatTemplate::named(&meta, "rag").unwrap_err().kind(), ErrorKind::NoTemplate);
}

#[test]
fn integers_of_a_message_keep_their_digits() {
    let value = parse_json(r#"{"a": [100000000000000000000, 1, -2, 1.0, 1e3], "12": "34", "b\"5": 6}"#).unwrap();
    let options = RenderOptions { variables: vec![("x".into(), value)], ..Default::default() };
    let text = ChatTemplate::new("{{ x | tojson }}").unwrap().render(&TemplateValue::from(()), &options).unwrap();
    assert_eq!(text, r#"{"a": [100000000000000000000, 1, -2, 1.0, 1000.0], "12": "34", "b\"5": 6}"#);
}
