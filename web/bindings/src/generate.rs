//! Chat prompts and the generation loop.

use pagelm::engine::{Event, GenerateParams, Generation, SamplerParams, StopReason, Usage};
use pagelm::text::template::{DateTime, parse_json};
use pagelm::text::{EncodeOptions, RenderOptions};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::now_ms;
use crate::value::{from_js, thrown, to_js};

/// The names are those of OpenAI's API where it has them.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Params {
    max_tokens: Option<usize>,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    penalty_last_n: usize,
    seed: u64,
    logit_bias: Vec<(u32, f32)>,
    stop: Vec<String>,
    ignore_eos: bool,
}

impl Default for Params {
    fn default() -> Self {
        let s = SamplerParams::default();
        Self {
            max_tokens: None,
            temperature: s.temperature,
            top_k: s.top_k,
            top_p: s.top_p,
            min_p: s.min_p,
            repeat_penalty: s.repeat_penalty,
            presence_penalty: s.presence_penalty,
            frequency_penalty: s.frequency_penalty,
            penalty_last_n: s.penalty_last_n,
            seed: s.seed,
            logit_bias: s.logit_bias,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }
}

impl From<Params> for GenerateParams {
    fn from(p: Params) -> Self {
        let sampler = SamplerParams {
            temperature: p.temperature,
            top_k: p.top_k,
            top_p: p.top_p,
            min_p: p.min_p,
            repeat_penalty: p.repeat_penalty,
            presence_penalty: p.presence_penalty,
            frequency_penalty: p.frequency_penalty,
            penalty_last_n: p.penalty_last_n,
            seed: p.seed,
            logit_bias: p.logit_bias,
        };
        GenerateParams { max_tokens: p.max_tokens, sampler, stop: p.stop, ignore_eos: p.ignore_eos }
    }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Piece {
    Prefill { done: usize, total: usize },
    Token { id: u32, text: String },
    Done { text: String, reason: StopReason, usage: Usage },
}

impl From<Event> for Piece {
    fn from(e: Event) -> Self {
        match e {
            Event::Prefill { done, total } => Piece::Prefill { done, total },
            Event::Token { id, text } => Piece::Token { id, text },
            Event::Done { text, reason, usage } => Piece::Done { text, reason, usage },
        }
    }
}

#[wasm_bindgen]
impl Engine {
    /// The text of a conversation by the template of the model, up to the start of an answer. `messages` and `tools`
    /// are JSON.
    pub fn render(&self, messages: &str, tools: Option<String>) -> Result<String, JsValue> {
        let template = self.template.as_ref().map_err(|e| thrown(e.clone()))?;
        let special = |id: Option<u32>| {
            let bytes = self.tokenizer.as_ref().ok().zip(id).and_then(|(t, id)| t.piece(id, true));
            String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
        };
        let (bos, eos) = self.tokenizer.as_ref().map_or((None, None), |t| (t.bos(), t.eos()));
        let options = RenderOptions {
            tools: tools.map(|t| parse_json(&t)).transpose().map_err(thrown)?,
            add_generation_prompt: true,
            bos_token: special(bos),
            eos_token: special(eos),
            now: Some(local_time()),
            ..RenderOptions::default()
        };
        template.render(&parse_json(messages).map_err(thrown)?, &options).map_err(thrown)
    }

    /// The tokens of a rendered conversation. Templates write the start of text themselves, so it is not put twice.
    pub fn chat_ids(&self, text: &str) -> Result<Vec<u32>, JsValue> {
        let tokenizer = self.tokenizer.as_ref().map_err(|e| thrown(e.clone()))?;
        let options = EncodeOptions { add_special: true, parse_special: true };
        let mut ids = tokenizer.encode(text, options).map_err(thrown)?;
        if tokenizer.adds_bos() && ids.len() > 1 && ids[0] == ids[1] {
            ids.remove(0);
        }
        Ok(ids)
    }

    /// Starts to generate after a prompt. What another generation left half done is dropped.
    pub fn generate(&mut self, ids: Vec<u32>, params: JsValue) -> Result<(), JsValue> {
        let params: Params = from_js("parameters", params)?;
        let (session, _, generation) = self.parts()?;
        *generation = None;
        *generation = Some(Generation::new(session, &ids, params.into(), now_ms()).map_err(thrown)?);
        Ok(())
    }

    /// One step: a chunk of the prompt or a token. Undefined once the generation is over.
    pub async fn next(&mut self) -> Result<JsValue, JsValue> {
        let (session, tokenizer, generation) = self.parts()?;
        let Some(running) = generation else { return Ok(JsValue::UNDEFINED) };
        match running.next(session, tokenizer, &now_ms).await.map_err(thrown)? {
            Some(event) => to_js(&Piece::from(event)),
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
