//! From messages to the tokens of a prompt.

use serde_json::Value;

use super::error::ApiError;
use super::fields::{At, Result};
use super::given::Given;
use super::model::Api;
use super::pictures::Picture;
use super::thinking;
use crate::engine::image_places;
use crate::error::Error;
use crate::text::template::parse_json;
use crate::text::{RenderOptions, chat_messages, chat_prompt, chat_variables};

/// Messages, and how they become a prompt.
pub(super) struct Conversation<'a> {
    messages: Vec<Value>,
    variables: Option<At<'a>>,
    effort: Option<At<'a>>,
    tools: Option<Value>,
    /// Images in the messages.
    pictures: &'a [Picture],
    /// The last message is gone on with.
    continues: bool,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(messages: Vec<Value>, variables: Option<At<'a>>, effort: Option<At<'a>>) -> Self {
        Self { messages, variables, effort, tools: None, pictures: &[], continues: false }
    }

    /// The model hears of these tools.
    pub(super) fn with_tools(self, tools: Option<Value>) -> Self {
        Self { tools, ..self }
    }

    /// The messages have these images.
    pub(super) fn with_pictures(self, pictures: &'a [Picture]) -> Self {
        Self { pictures, ..self }
    }

    /// Goes on with the last message instead of starting another one, if asked to. The two flags that say so must agree.
    pub(super) fn continued(mut self, continues: Option<At<'_>>, starts: Option<At<'_>>) -> Result<Self> {
        self.continues = continues.as_ref().map_or(Ok(false), At::boolean)?;
        if let Some(at) = starts.filter(|at| *at.value != !self.continues) {
            at.boolean()?;
            return Err(at.refuse("must be the opposite of `continue_final_message`"));
        }
        let last = self.messages.last().map(|message| &message["role"]);
        match continues {
            Some(at) if self.continues && last.is_some_and(|role| role != "assistant") => {
                Err(at.refuse("needs a last message with the role \"assistant\""))
            }
            _ => Ok(self),
        }
    }

    /// The tokens, up to where the answer starts. What has no effect is named.
    pub(super) fn prompt(&self, api: &Api, given: &Given, warnings: &mut Vec<String>) -> Result<Vec<u32>> {
        let template = api.template.as_ref().map_err(Clone::clone)?;
        let known = self.variables.as_ref().map(|at| thinking::known(template, at, warnings));
        let variables = known.map(|value| chat_variables(template, &value.to_string()));
        let mut variables = variables.transpose()?.unwrap_or_default();
        if let Some(effort) = &self.effort {
            match thinking::variable(template, effort)? {
                None => warnings.push(effort.path.clone()),
                Some((name, _)) if variables.iter().any(|(other, _)| *other == name) => {
                    return Err(effort.refuse(format_args!("sets `{name}`, as `chat_template_kwargs` does; give one")));
                }
                Some(variable) => variables.push(variable),
            }
        }
        if self.tools.is_some() && !template.mentions("tools") {
            return Err(ApiError::invalid(
                "tools",
                "cannot be given: the chat template of the model has no place for them",
            ));
        }
        let options = RenderOptions {
            tools: self.tools.as_ref().map(|tools| parse_json(&tools.to_string())).transpose()?,
            add_generation_prompt: !self.continues,
            continue_final_message: self.continues,
            variables,
            now: given.date,
            ..RenderOptions::default()
        };
        let messages = parse_json(&Value::from(self.messages.clone()).to_string())?;
        let place = |e: Error| match e.place() {
            "" => ApiError::from(e).about("messages"),
            place => ApiError::invalid(place, e.detail()),
        };
        let messages = chat_messages(template, &messages).map_err(place)?;
        let ids = chat_prompt(template, &api.tokenizer, &messages, options);
        let ids = ids.map_err(|e| ApiError::from(e).about("messages"))?;
        let (places, images) = (image_places(&api.tokenizer, &ids), self.pictures.len());
        if images > 0 && places != images {
            let why =
                format_args!("have {images} images, for which the chat template of the model writes {places} places");
            return Err(ApiError::invalid("messages", format_args!("{why}; send images in messages of the user")));
        }
        Ok(ids)
    }
}
