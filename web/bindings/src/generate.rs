//! Chat prompts and the generation loop.

use pagelm::engine::{GenerateParams, Generation};
use pagelm::text::template::{DateTime, parse_json};
use pagelm::text::{EncodeOptions, RenderOptions};
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::now_ms;
use crate::value::{from_js, thrown, to_js};

#[wasm_bindgen]
impl Engine {
    /// The text of a conversation by the template of the model, up to the start of an answer. `messages` and `tools`
    /// are JSON.
    pub fn render(&self, messages: &str, tools: Option<String>) -> Result<String, JsValue> {
        let template = self.template.as_ref().map_err(|e| thrown(e.clone()))?;
        let tokenizer = self.tokenizer()?;
        let special = |id: Option<u32>| {
            let bytes = id.and_then(|id| tokenizer.piece(id, true)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let options = RenderOptions {
            tools: tools.map(|t| parse_json(&t)).transpose().map_err(thrown)?,
            add_generation_prompt: true,
            bos_token: special(tokenizer.bos()),
            eos_token: special(tokenizer.eos()),
            now: Some(local_time()),
            ..RenderOptions::default()
        };
        template.render(&parse_json(messages).map_err(thrown)?, &options).map_err(thrown)
    }

    /// The tokens of a rendered conversation. Templates write the start of text themselves, so it is not put twice.
    pub fn chat_ids(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        let tokenizer = self.tokenizer()?;
        let options = EncodeOptions { add_special: true, parse_special: true };
        let mut ids = tokenizer.encode(text, options).map_err(thrown)?;
        if tokenizer.adds_bos() && ids.len() > 1 && ids[0] == ids[1] {
            ids.remove(0);
        }
        Ok(ids)
    }

    /// Starts to generate after a prompt. What another generation left half done is dropped.
    pub fn generate(&mut self, ids: Vec<u32>, params: JsValue) -> Result<(), JsValue> {
        let params: GenerateParams = from_js("parameters", params)?;
        let (session, _, generation) = self.parts()?;
        *generation = None;
        *generation = Some(Generation::new(session, &ids, params, now_ms()).map_err(thrown)?);
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
