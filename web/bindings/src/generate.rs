//! Chat prompts and the generation loop.

use pagelm::engine::{Event, GenerateParams, Generation, SamplerParams, StopReason};
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
    Done { text: String, reason: &'static str, usage: Usage },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    cached_tokens: usize,
    first_token_ms: f64,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
}

#[wasm_bindgen]
impl Engine {
    /// The text of a conversation by the template of the model. `messages` and `tools` are JSON.
    pub fn render(&self, messages: &str, tools: Option<String>, continues: bool) -> Result<String, JsValue> {
        let template = self.template.as_ref().map_err(|e| thrown(e.clone()))?;
        todo(template, messages, tools, continues)
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
        let event = running.next(session, tokenizer, &now_ms).await.map_err(thrown)?;
        let piece = match event {
            None => {
                *generation = None;
                return Ok(JsValue::UNDEFINED);
            }
            Some(Event::Prefill { done, total }) => Piece::Prefill { done, total },
            Some(Event::Token { id, text }) => Piece::Token { id, text },
            Some(Event::Done { text, reason, usage: u }) => Piece::Done {
                text,
                reason: match reason {
                    StopReason::EndOfText | StopReason::StopString => "stop",
                    StopReason::MaxTokens | StopReason::ContextFull => "length",
                },
                usage: Usage {
                    prompt_tokens: u.prompt_tokens,
                    completion_tokens: u.completion_tokens,
                    cached_tokens: u.cached_tokens,
                    first_token_ms: u.first_token_ms,
                    prefill_tokens_per_s: u.prefill_tokens_per_s,
                    decode_tokens_per_s: u.decode_tokens_per_s,
                },
            },
        };
        to_js(&piece)
    }
}
