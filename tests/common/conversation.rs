//! Conversations of the fixtures, as options of templates.

use pagelm::text::RenderOptions;
use pagelm::text::template::{DateTime, TemplateValue, parse_json};
use serde_json::Value;

pub const NOW: DateTime = DateTime { year: 2026, month: 3, day: 5, hour: 14, minute: 7, second: 9 };

/// The JSON text of a part of the fixture, so that integers beyond 64 bits keep their digits: the fixture has one.
pub fn value(part: &Value) -> TemplateValue {
    parse_json(&part.to_string().replace("1e+20", "100000000000000000000")).unwrap()
}

/// The options of a conversation of the fixture. Of the template only its tokens are read, where it names some.
pub fn options(conversation: &Value, template: &Value) -> RenderOptions {
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
