//! Chat templates: Jinja as transformers renders it, by minijinja, within limits.
//!
//! A template comes with the model, so it is foreign code. It can call nothing outside of itself and it ends: what it
//! executes, makes and nests is bounded (`limits`), which is checked where the values are made (`rewrite`).
//!
//! Known differences from Jinja: macros have no `varargs` and `kwargs`, integers have 128 bits, `%` formats no strings,
//! and a template cannot load another.

mod builtins;
mod clock;
mod filters;
mod json;
mod limits;
mod methods;
mod ops;
mod parse;
mod python;
mod rewrite;
mod shadowed;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use minijinja::machinery::{CodeGenerator, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment};

pub use clock::DateTime;
pub use minijinja::Value as TemplateValue;
pub use parse::parse_json;

use super::shadow::{Shadows, is_private};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Array, Meta, Value};
use limits::Budget;

const KEY: &str = "tokenizer.chat_template";

/// What a template is rendered with, beside the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// A list of tools; left out (`none` for the template) where there are none.
    pub tools: Option<TemplateValue>,
    /// End with the start of an answer.
    pub add_generation_prompt: bool,
    /// Leave the last message open, to be continued: what the template puts after its content is cut off.
    pub continue_final_message: bool,
    /// More variables of the template, such as `enable_thinking`.
    pub variables: Vec<(String, TemplateValue)>,
    /// The text of the BOS token; empty where there is none.
    pub bos_token: String,
    /// The text of the EOS token; empty where there is none.
    pub eos_token: String,
    /// What `strftime_now` prints. Without it a template finds that function undefined.
    pub now: Option<DateTime>,
}

/// The shape of messages that a template reads, which only trying tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageShape {
    /// Content is a list of parts, and a string is not shown.
    pub wants_parts: bool,
    /// The arguments of calls are JSON text, and an object fails or is shown as Python.
    pub wants_argument_text: bool,
}

/// A chat template that was checked for its syntax.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    shape: OnceLock<MessageShape>,
}

impl ChatTemplate {
    /// The template of a GGUF file.
    pub fn from_gguf(meta: &Meta) -> Result<ChatTemplate> {
        match meta.opt_string(KEY)? {
            Some(source) => Self::new(source),
            None => bail!(NoTemplate, "the file has no `{KEY}`; messages must be put into a prompt by the caller"),
        }
    }

    /// A template that a GGUF file holds under a name, such as `tool_use`.
    pub fn named(meta: &Meta, name: &str) -> Result<ChatTemplate> {
        match meta.opt_string(&format!("{KEY}.{name}"))? {
            Some(source) => Self::new(source),
            None => bail!(NoTemplate, "the file has no chat template named `{name}`"),
        }
    }

    /// The names of the templates that [`ChatTemplate::named`] finds.
    pub fn names(meta: &Meta) -> Vec<String> {
        match meta.get("tokenizer.chat_templates") {
            Some(Value::Array(Array::Strings(names))) => {
                names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
            }
            _ => {
                let name = |key: &str| key.strip_prefix(KEY)?.strip_prefix('.').map(str::to_owned);
                meta.iter().filter_map(|(key, _)| name(key)).collect()
            }
        }
    }

    /// Compiles a template. Templates that are too long or nested too deep are refused (`template-limit`), as is
    /// wrong syntax (`bad-template`).
    pub fn new(source: &str) -> Result<ChatTemplate> {
        if source.len() > limits::MAX_SOURCE {
            bail!(TemplateLimit, "the chat template has {} bytes, the limit is {}", source.len(), limits::MAX_SOURCE);
        }
        source::check_depth(source, syntax())?;
        let source = source::adapt(source, syntax());
        compile(&source).map_err(|e| fault(&e))?;
        Ok(ChatTemplate { source, shape: OnceLock::new() })
    }

    /// Renders `messages`, a list of maps with `role` and `content`.
    pub fn render(&self, messages: &TemplateValue, options: &RenderOptions) -> Result<String> {
        self.render_shadowed(messages, options, &Shadows::default())
    }

    /// The shape of its messages, which is found once.
    pub(super) fn shape(&self, find: impl FnOnce() -> MessageShape) -> MessageShape {
        *self.shape.get_or_init(find)
    }

    /// Its text, as it is run.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether a name occurs in the template, be it only in a text.
    pub fn mentions(&self, name: &str) -> bool {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        !name.is_empty() && self.source.split(|c| !part(c)).any(|word| word == name)
    }

    /// The private characters of the template and of all that it is rendered with.
    pub(super) fn private_characters(&self, messages: &TemplateValue, options: &RenderOptions) -> BTreeSet<char> {
        let mut taken = self.source.chars().filter(|&c| is_private(c)).collect();
        let values = options.tools.iter().chain(options.variables.iter().map(|(_, value)| value));
        values.chain([messages]).for_each(|value| shadowed::note_private(value, &mut taken));
        taken
    }

    /// Renders with shadows in all that is not of the template, and leaves them in what comes out.
    pub(super) fn render_shadowed(
        &self,
        messages: &TemplateValue,
        options: &RenderOptions,
        shadows: &Shadows,
    ) -> Result<String> {
        let cast = |value: &TemplateValue| match shadows.are_off() {
            true => value.clone(),
            false => shadowed::cast(shadows, value),
        };
        let messages = &cast(messages);
        let mut variables: Vec<(String, TemplateValue)> = vec![
            ("messages".into(), messages.clone()),
            ("tools".into(), options.tools.as_ref().map_or(TemplateValue::from(()), cast)),
            ("documents".into(), TemplateValue::from(())),
            ("add_generation_prompt".into(), TemplateValue::from(options.add_generation_prompt)),
            ("bos_token".into(), TemplateValue::from(options.bos_token.as_str())),
            ("eos_token".into(), TemplateValue::from(options.eos_token.as_str())),
        ];
        variables.extend(options.variables.iter().map(|(name, value)| (name.clone(), cast(value))));
        let rendered = self.evaluate(TemplateValue::from_pairs(variables), options.now, shadows)?;
        if options.continue_final_message { cut_after_final_message(rendered, messages, shadows) } else { Ok(rendered) }
    }

    fn evaluate(&self, root: TemplateValue, now: Option<DateTime>, shadows: &Shadows) -> Result<String> {
        let budget = Arc::new(Budget::new(shadows.clone()));
        let mut env = Environment::new();
        env.set_fuel(Some(limits::FUEL));
        env.set_recursion_limit(limits::RECURSION);
        // Otherwise builds for tests would print all variables into each error.
        env.set_debug(false);
        builtins::install(&mut env, &budget, now);
        let shared = budget.clone();
        env.set_formatter(move |out, _, value| {
            shared.pay(value)?;
            let text = python::str(value);
            shared.reserve(Some(text.len()))?;
            out.write_str(&text).map_err(minijinja::Error::from)
        });
        let (program, blocks) = compile(&self.source).map_err(|e| fault(&e))?;
        let mut text = String::new();
        let mut out = minijinja::machinery::make_string_output(&mut text);
        let result = minijinja::machinery::eval(&env, &program, root, &blocks, &mut out, AutoEscape::None);
        let failed = result.err();
        if text.len() > limits::MAX_OUTPUT {
            bail!(
                TemplateLimit,
                "the chat template made {} bytes of text, the limit is {}",
                text.len(),
                limits::MAX_OUTPUT
            );
        }
        match failed {
            None => Ok(text),
            Some(error) => Err(explain(&error, &budget)),
        }
    }
}

/// Jinja's delimiters, and the white space around statements as transformers sets it.
fn syntax() -> SyntaxConfig {
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    syntax.build().expect("these delimiters are Jinja's own")
}

type Blocks<'s> = BTreeMap<&'s str, Instructions<'s>>;

fn compile(source: &str) -> std::result::Result<(Instructions<'_>, Blocks<'_>), minijinja::Error> {
    let tree = minijinja::machinery::parse(source, "chat template", syntax())?;
    let mut generator = CodeGenerator::new("chat template", source);
    generator.compile_stmt(&tree);
    let (program, blocks) = generator.finish();
    let broken = || minijinja::Error::new(minijinja::ErrorKind::SyntaxError, "a jump leads nowhere");
    let program = rewrite::guard(&program).ok_or_else(broken)?;
    let blocks = blocks.iter().map(|(name, block)| Some((*name, rewrite::guard(block)?))).collect::<Option<_>>();
    Ok((program, blocks.ok_or_else(broken)?))
}

fn explain(error: &minijinja::Error, budget: &Budget) -> Error {
    let detail = budget.shadows.plain(error.detail().unwrap_or_default());
    let line = error.line().map_or(String::new(), |line| format!(" (line {line})"));
    if budget.is_exceeded() || error.kind() == minijinja::ErrorKind::OutOfFuel || is_limit(error) {
        let what = if detail.is_empty() { "the template takes too many steps" } else { &*detail };
        return Error::new(ErrorKind::TemplateLimit, format!("{what}{line}")).at("chat template");
    }
    match budget.raised.lock().unwrap_or_else(|e| e.into_inner()).take() {
        Some(message) => Error::new(ErrorKind::TemplateRaised, message),
        None => {
            let error = fault(error);
            Error::new(error.kind(), budget.shadows.plain(error.detail())).at(error.place())
        }
    }
}

/// Limits that minijinja has itself.
fn is_limit(error: &minijinja::Error) -> bool {
    let mut text = error.detail().unwrap_or_default().to_owned();
    if let Some(source) = std::error::Error::source(error) {
        text += &source.to_string();
    }
    text.contains("recursion limit") || text.contains("too many elements")
}

fn fault(error: &minijinja::Error) -> Error {
    let limit = is_limit(error) || error.to_string().contains("maximum recursion");
    let kind = if limit { ErrorKind::TemplateLimit } else { ErrorKind::BadTemplate };
    let line = error.line().map_or(String::new(), |line| format!(" (line {line})"));
    let detail = error.detail().map_or_else(|| error.kind().to_string(), |d| format!("{}: {d}", error.kind()));
    Error::new(kind, format!("{detail}{line}")).at("chat template")
}

/// Cuts off what the template put behind the content of the last message.
fn cut_after_final_message(mut rendered: String, messages: &TemplateValue, shadows: &Shadows) -> Result<String> {
    let last = messages.len().and_then(|n| messages.get_item(&TemplateValue::from(n.checked_sub(1)?)).ok());
    let content = last.and_then(|m| m.get_attr("content").ok()).unwrap_or_default();
    let text = match content.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let part = content.len().and_then(|n| content.get_item(&TemplateValue::from(n.checked_sub(1)?)).ok());
            let text = part.and_then(|p| p.get_attr("text").ok()).unwrap_or_default();
            let Some(text) = text.as_str() else {
                bail!(InvalidArgument, "continue_final_message needs text in the last message")
            };
            text.to_owned()
        }
    };
    let end = |rendered: &str, text: &str| {
        let (at, whole) = (rendered.rfind(text.trim())?, text.trim_start());
        Some(at + if rendered[at..].starts_with(whole) { whole.len() } else { text.trim().len() })
    };
    let end = end(&rendered, &text).or_else(|| {
        let plain = shadows.plain(&rendered);
        let characters = plain[..end(&plain, &shadows.plain(&text))?].chars().count();
        Some(rendered.char_indices().nth(characters).map_or(rendered.len(), |(at, _)| at))
    });
    let Some(end) = end else {
        bail!(InvalidArgument, "the chat template leaves the last message out, so it cannot be continued")
    };
    rendered.truncate(end);
    Ok(rendered)
}
