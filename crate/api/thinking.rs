//! `reasoning_effort`: each family of models has its own switch, a variable of the chat template.

use super::fields::{At, Result};
use crate::text::ChatTemplate;
use crate::text::template::TemplateValue;

const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// Variables that turn reasoning on and off.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// The variable of the template that sets an effort.
pub(super) fn variable(template: &ChatTemplate, effort: &At<'_>) -> Result<(String, TemplateValue)> {
    let value = effort.one_of(&EFFORTS)?;
    if template.mentions("reasoning_effort") {
        return Ok(("reasoning_effort".to_string(), TemplateValue::from(value)));
    }
    match SWITCHES.iter().find(|name| template.mentions(name)) {
        Some(name) => Ok((name.to_string(), TemplateValue::from(!["none", "minimal"].contains(&value)))),
        None => Err(effort.refuse("does nothing here: the chat template of the model has no switch for reasoning")),
    }
}
