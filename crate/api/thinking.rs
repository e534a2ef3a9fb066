//! `reasoning_effort`: each family of models has its own switch, a variable of the chat template.

use super::fields::{At, Result};
use crate::text::ChatTemplate;
use crate::text::template::TemplateValue;

const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// Variables that turn reasoning on and off.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// The variable of the template that sets an effort; none where it has no switch. Clients send an effort to any model.
pub(super) fn variable(template: &ChatTemplate, effort: &At<'_>) -> Result<Option<(String, TemplateValue)>> {
    let value = effort.one_of(&EFFORTS)?;
    if template.mentions("reasoning_effort") {
        return Ok(Some(("reasoning_effort".to_string(), TemplateValue::from(value))));
    }
    let switch = SWITCHES.iter().find(|name| template.mentions(name));
    Ok(switch.map(|name| (name.to_string(), TemplateValue::from(!["none", "minimal"].contains(&value)))))
}
