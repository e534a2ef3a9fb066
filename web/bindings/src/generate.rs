//! Chat prompts and the generation loop.

use pagelm::engine::{Event, GenerateParams};
use pagelm::text::template::{DateTime, TemplateValue, parse_json};
use pagelm::text::{ChatTemplate, RenderOptions, Tokenizer, chat_prompt, chat_text, chat_variables};
use serde::Serialize;
use serde_json::value::RawValue;
use wasm_bindgen::prelude::*;

use crate::engine::{Engine, Ready};
use crate::value::{Problem, from_js, thrown, to_js};
use crate::{now_ms, options};

#[wasm_bindgen]
impl Engine {
    /// The text of a conversation by the template of the model, up to the start of an answer.
    pub fn render(&self, chat: &JsValue) -> Result<JsValue, JsValue> {
        self.chat(chat_text, chat).map(JsValue::from)
    }

    /// The tokens of a conversation, for the same.
    #[wasm_bindgen(js_name = chatIds)]
    pub fn chat_ids(&self, chat: &JsValue) -> Result<Vec<u32>, JsValue> {
        self.chat(chat_prompt, chat)
    }

    /// Adds a generation after a prompt to those that run, and returns its number. It goes on from what the cache has of
    /// the prompt, in sessions too.
    pub fn generate(&mut self, ids: Vec<u32>, params: &JsValue) -> Result<u32, JsValue> {
        let params: GenerateParams = from_js("parameters", params)?;
        let (Ready { engine, batch, sessions }, tokenizer) = self.parts()?;
        let id = batch.add_beside(sessions.sequences(), engine, tokenizer, &ids, params, now_ms());
        id.map(|id| id as u32).map_err(thrown)
    }

    /// One step of the generations with these numbers: what it brought to which of them. Nothing if none can run.
    pub async fn next(&mut self, wanted: Vec<u32>) -> Result<JsValue, JsValue> {
        let (Ready { engine, batch, .. }, tokenizer) = self.parts()?;
        batch.pause(|id| !wanted.contains(&(id as u32)));
        let events = match batch.next(engine, tokenizer, &now_ms).await {
            Ok(events) => events,
            // A step that fails is that of all.
            Err(e) => batch.clear(engine).into_iter().map(|id| (id, Err(e.clone()))).collect(),
        };
        let news = events.iter().map(|(id, result)| match result {
            Ok(event) => News { id: *id, piece: Some(event), error: None },
            Err(e) => News { id: *id, piece: None, error: Some(e.into()) },
        });
        to_js(&news.collect::<Vec<_>>())
    }

    /// Ends a generation, if it still runs.
    pub fn stop(&mut self, id: u32) -> Result<(), JsValue> {
        let (Ready { engine, batch, .. }, _) = self.parts()?;
        batch.stop(engine, id.into());
        Ok(())
    }
}

/// What a step brought to a generation.
#[derive(Serialize)]
struct News<'a> {
    id: u64,
    piece: Option<&'a Event>,
    error: Option<Problem>,
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
