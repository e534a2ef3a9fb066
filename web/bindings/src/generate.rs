//! Chat prompts and the generation loop.

use pagelm::engine::{GenerateParams, Generation};
use pagelm::text::template::{DateTime, TemplateValue, parse_json};
use pagelm::text::{ChatTemplate, RenderOptions, Tokenizer, chat_prompt, chat_text, chat_variables};
use serde_json::value::RawValue;
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::value::{from_js, thrown, to_js};
use crate::{now_ms, options};

#[wasm_bindgen]
impl Engine {
    /// The text of a conversation by the template of the model, up to the start of an answer.
    pub fn render(&self, chat: &JsValue) -> Result<String, JsValue> {
        self.chat(chat_text, chat)
    }

    /// The tokens of a conversation, for the same.
    #[wasm_bindgen(js_name = chatIds)]
    pub fn chat_ids(&self, chat: &JsValue) -> Result<Vec<u32>, JsValue> {
        self.chat(chat_prompt, chat)
    }

    /// Starts to generate after a prompt. What another generation left half done is dropped.
    pub fn generate(&mut self, ids: Vec<u32>, params: &JsValue) -> Result<(), JsValue> {
        let params: GenerateParams = from_js("parameters", params)?;
        let (session, tokenizer, generation) = self.parts()?;
        *generation = None;
        *generation = Some(Generation::new(session, tokenizer, &ids, params, now_ms()).map_err(thrown)?);
        Ok(())
    }

    /// One step: a chunk of the prompt or a token. Undefined once the generation is over.
    pub async fn next(&mut self) -> Result<JsValue, JsValue> {
        let (session, tokenizer, generation) = self.parts()?;
        let Some(running) = generation else { return Ok(JsValue::UNDEFINED) };
        match running.next(session, tokenizer, &now_ms).await.map_err(thrown)? {
            Some(event) => to_js(&event),
            None => {
                *generation = None;
                Ok(JsValue::UNDEFINED)
            }
        }
    }
}

type Chat<T> = fn(&ChatTemplate, &Tokenizer, &TemplateValue, RenderOptions) -> pagelm::Result<T>;

impl Engine {
    fn chat<T>(&self, make: Chat<T>, given: &JsValue) -> Result<T, JsValue> {
        let template = self.template.as_ref().map_err(|e| thrown(e.clone()))?;
        let options::Chat { messages, tools, variables } = from_js("chat", given)?;
        let json = |text: Box<RawValue>| parse_json(text.get()).map_err(thrown);
        let options = RenderOptions {
            tools: tools.map(json).transpose()?,
            add_generation_prompt: true,
            variables: variables.map_or(Ok(Vec::new()), |v| chat_variables(template, v.get())).map_err(thrown)?,
            now: Some(local_time()),
            ..RenderOptions::default()
        };
        make(template, self.tokenizer()?, &json(messages)?, options).map_err(thrown)
    }
}

/// The time that the user's clock shows.
fn local_time() -> DateTime {
    let d = js_sys::Date::new_0();
    DateTime {
        year: d.get_full_year() as u16,
        month: d.get_month() as u8 + 1,
        day: d.get_date() as u8,
        hour: d.get_hours() as u8,
        minute: d.get_minutes() as u8,
        second: d.get_seconds() as u8,
    }
}
