//! From messages to the prompt of a model.

use minijinja::value::ValueKind;

use super::shadow::Shadows;
use super::template::{ChatTemplate, RenderOptions, TemplateValue, parse_json};
use super::tokenizer::{EncodeOptions, Tokenizer};
use crate::error::{Error, ErrorKind, Result};

/// The text of a conversation, `messages` being a list of maps with `role` and `content`. To run it, take
/// [`chat_prompt`]: in a text, what a user wrote looks like what the template wrote.
pub fn chat_text(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &TemplateValue,
    options: RenderOptions,
) -> Result<String> {
    let (text, shadows) = render(template, tokenizer, messages, options)?;
    Ok(shadows.plain(&text).into_owned())
}

/// The tokens of a conversation. Only what the template writes becomes control tokens and other markers; messages, tools
/// and variables are text, whatever they hold.
///
/// The start of text is there once, from the template or else where the model wants it; and as an answer is to follow,
/// no end of text is added.
pub fn chat_prompt(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &TemplateValue,
    options: RenderOptions,
) -> Result<Vec<u32>> {
    let (text, shadows) = render(template, tokenizer, messages, options)?;
    let encode = EncodeOptions { add_special: false, parse_special: true };
    let mut ids = tokenizer.encode_shadowed(&text, encode, &shadows)?;
    let Some(bos) = tokenizer.bos() else { return Ok(ids) };
    // Templates write white space by mistake, and some write the start of text twice.
    let blank = |id: &u32| String::from_utf8_lossy(tokenizer.piece(*id, true).unwrap_or_default()).trim().is_empty();
    let start = ids.iter().take_while(|id| **id == bos || blank(id)).count();
    let mut first = true;
    let mut at = 0;
    ids.retain(|id| {
        at += 1;
        *id != bos || at > start || std::mem::take(&mut first)
    });
    if first && tokenizer.adds_bos() {
        ids.insert(0, bos);
    }
    Ok(ids)
}

/// Variables for a template, from a JSON object such as `{"enable_thinking": false}`.
pub fn chat_variables(template: &ChatTemplate, json: &str) -> Result<Vec<(String, TemplateValue)>> {
    let place = |e: Error| e.at("chat_template_kwargs");
    let value = parse_json(json).map_err(place)?;
    let object = value.as_object().filter(|_| value.kind() == ValueKind::Map);
    let Some(variables) = object.and_then(|object| object.try_iter_pairs()) else {
        return Err(place(invalid("must be a JSON object of variables and their values".to_string())));
    };
    let check = |(name, value): (TemplateValue, TemplateValue)| {
        let name = name.as_str().unwrap_or_default().to_owned();
        if GIVEN.contains(&&*name) {
            return Err(place(invalid(format!("`{name}` is reserved: the request itself sets it"))));
        }
        if !template.mentions(&name) {
            let detail = format!("the chat template does not use a variable `{name}`; is it misspelt?");
            return Err(place(invalid(detail)));
        }
        Ok((name, value))
    };
    variables.map(check).collect()
}

/// Variables that a template gets in any case.
const GIVEN: [&str; 6] =
    ["messages", "tools", "add_generation_prompt", "continue_final_message", "bos_token", "eos_token"];

fn invalid(detail: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, detail)
}

/// Renders with the names of the tokenizer's tokens, which templates write, and with shadows in all that they do not.
fn render(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: &TemplateValue,
    options: RenderOptions,
) -> Result<(String, Shadows)> {
    let name = |id: Option<u32>| {
        let bytes = id.and_then(|id| tokenizer.piece(id, true)).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let options = RenderOptions { bos_token: name(tokenizer.bos()), eos_token: name(tokenizer.eos()), ..options };
    let shadows = Shadows::new(tokenizer.markers(), &template.private_characters(messages, &options))?;
    Ok((template.render_shadowed(messages, &options, &shadows)?, shadows))
}
