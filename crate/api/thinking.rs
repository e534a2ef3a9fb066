//! Switches of reasoning: each family of models has its own, a variable of the chat template.

use serde_json::Value;

use super::fields::{At, Result};
use crate::text::ChatTemplate;
use crate::text::template::TemplateValue;

const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// Variables that turn reasoning on and off.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// The same, how much of it there is, and whether templates show the model what it thought in earlier turns.
const FAMILIAR: [&str; 8] = [
    "enable_thinking",
    "thinking",
    "reasoning_effort",
    "preserve_thinking",
    "preserve_reasoning",
    "clear_thinking",
    "drop_thinking",
    "truncate_history_thinking",
];

/// Variables for a template without the switches of other families, which are named: clients send those to any model.
pub(super) fn known(template: &ChatTemplate, variables: &At<'_>, warnings: &mut Vec<String>) -> Value {
    let mut value = variables.value.clone();
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| {
            let keep = !FAMILIAR.contains(&&**name) || template.mentions(name);
            if !keep {
                warnings.push(format!("{}.{name}", variables.path));
            }
            keep
        });
    }
    value
}

/// The variable of the template that sets an effort; none where it has no switch. Clients send an effort to any model.
pub(super) fn variable(template: &ChatTemplate, effort: &At<'_>) -> Result<Option<(String, TemplateValue)>> {
    let value = effort.one_of(&EFFORTS)?;
    if template.mentions("reasoning_effort") {
        return Ok(Some(("reasoning_effort".to_string(), TemplateValue::from(value))));
    }
    let switch = SWITCHES.iter().find(|name| template.mentions(name));
    Ok(switch.map(|name| (name.to_string(), TemplateValue::from(!["none", "minimal"].contains(&value)))))
}
