//! Chat templates against what transformers renders, and against templates that attack the page.

use std::time::{Duration, Instant};

use pagelm::text::template::{DateTime, TemplateValue, parse_json};
use pagelm::text::{ChatTemplate, RenderOptions};
use pagelm::{Error, ErrorKind};
use serde_json::Value;

use crate::common::fixtures;

const NOW: DateTime = DateTime { year: 2026, month: 3, day: 5, hour: 14, minute: 7, second: 9 };

/// The JSON text of a part of the fixture, so that integers beyond 64 bits keep their digits: the fixture has one.
fn value(part: &Value) -> TemplateValue {
    parse_json(&part.to_string().replace("1e+20", "100000000000000000000")).unwrap()
}

fn options(conversation: &Value, template: &Value) -> RenderOptions {
    let token = |key: &str| template[key].as_str().unwrap_or_default().to_owned();
    let mut options = RenderOptions {
        bos_token: token("bos_token"),
        eos_token: token("eos_token"),
        now: Some(NOW),
        ..Default::default()
    };
    for (name, option) in conversation["options"].as_object().into_iter().flatten() {
        match name.as_str() {
            "tools" => options.tools = Some(value(option)),
            "add_generation_prompt" => options.add_generation_prompt = option.as_bool().unwrap(),
            "continue_final_message" => options.continue_final_message = option.as_bool().unwrap(),
            _ => options.variables.push((name.clone(), value(option))),
        }
    }
    options
}

/// What is wrong with a result, if anything.
fn judge(want: &Value, got: Result<String, Error>) -> Option<String> {
    match (want["rendered"].as_str(), want["error"].as_str(), got) {
        (Some(want), _, Ok(got)) if want == got => None,
        (None, Some("raised"), Err(e)) if e.kind() == ErrorKind::TemplateRaised && Some(e.detail()) == want["message"].as_str() => None,
        (None, Some("undefined" | "python" | "syntax" | "security"), Err(e)) if e.kind() == ErrorKind::BadTemplate => None,
        (_, _, got) => Some(format!("\n  want {want}\n  got  {got:?}")),
    }
}

#[test]
fn published_templates_render_as_transformers_does() {
    let Some(data) = fixtures::json("reference/templates.json") else { return };
    let (mut passed, mut wrong) = (0, Vec::new());
    for (name, template) in data["templates"].as_object().unwrap() {
        let compiled = ChatTemplate::new(template["template"].as_str().unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
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

#[test]
fn language_features_render_as_jinja_does() {
    let Some(data) = fixtures::json("reference/templates.json") else { return };
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
            Some(what) => wrong.push(format!("{}: {what}", case["name"])),
        }
    }
    eprintln!("template features: {passed} cases");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
