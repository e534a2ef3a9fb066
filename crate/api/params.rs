//! Parameters that several endpoints have.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::answer::Chunk;
use super::fields::{At, Fields, Result, is_empty_list};
use super::given::Given;
use super::model::Api;
use super::usage::Totals;
use crate::backend::MAX_LOGPROBS;
use crate::engine::SamplerParams;

/// The most generations of one request.
pub(super) const MOST_ANSWERS: usize = 128;

const MOST_STOPS: usize = 64;

const ANY: RangeInclusive<f64> = f64::MIN..=f64::MAX;
const AT_LEAST_0: RangeInclusive<f64> = 0.0..=f64::MAX;

/// How tokens are chosen: as the request says, then as the file says, then OpenAI's defaults.
pub(super) fn sampler(f: &mut Fields<'_>, api: &Api, given: &Given) -> Result<SamplerParams> {
    let base = api.sampling.over(SamplerParams::default());
    let mut number = |name, range: RangeInclusive<f64>, base: f32| -> Result<f32> {
        Ok(f.get(name, |v| v.number(range))?.unwrap_or(base))
    };
    Ok(SamplerParams {
        temperature: number("temperature", AT_LEAST_0, base.temperature)?,
        top_p: number("top_p", 0.0..=1.0, base.top_p)?,
        min_p: number("min_p", 0.0..=1.0, base.min_p)?,
        // A divisor: 0 and what is near it would make infinities.
        repeat_penalty: number("repeat_penalty", 1e-6..=f64::MAX, base.repeat_penalty)?,
        presence_penalty: number("presence_penalty", ANY, base.presence_penalty)?,
        frequency_penalty: number("frequency_penalty", ANY, base.frequency_penalty)?,
        top_k: f.get("top_k", |v| v.count(0..=usize::MAX))?.unwrap_or(base.top_k),
        penalty_last_n: f.get("penalty_last_n", |v| v.count(0..=usize::MAX))?.unwrap_or(base.penalty_last_n),
        seed: f.get("seed", seed)?.unwrap_or(given.seed),
        logit_bias: biases(f, api)?,
    })
}

/// Any integer of 64 bits, negative ones too.
fn seed(at: &At<'_>) -> Result<u64> {
    let signed = || at.value.as_i64().map(i64::cast_unsigned);
    at.value.as_u64().or_else(signed).ok_or_else(|| at.must("an integer"))
}

/// `logit_bias`, and `suppress_tokens`, which forbids.
fn biases(f: &mut Fields<'_>, api: &Api) -> Result<Vec<(u32, f32)>> {
    let size = api.tokenizer.vocab_size();
    let known = |id: Option<u32>| id.filter(|id| (*id as usize) < size);
    let mut biases = Vec::new();
    if let Some(at) = f.take("logit_bias") {
        let Value::Object(object) = at.value else { return Err(at.must("an object of token ids and numbers")) };
        for (name, value) in object {
            let at = At { value, path: format!("{}[{name}]", at.path) };
            let Some(id) = known(name.parse().ok()) else {
                return Err(at.refuse(format_args!("is not the bias of a token: there are tokens 0 to {}", size - 1)));
            };
            biases.push((id, at.number(-100.0..=100.0)?));
        }
    }
    for at in f.get("suppress_tokens", |v| v.list("token ids"))?.unwrap_or_default() {
        let id = known(at.value.as_u64().and_then(|id| u32::try_from(id).ok()));
        let id = id.ok_or_else(|| at.must(&format!("a token id from 0 to {}", size - 1)))?;
        biases.retain(|(other, _)| *other != id);
        biases.push((id, f32::NEG_INFINITY));
    }
    Ok(biases)
}

/// A string or a list of strings.
pub(super) fn stop(f: &mut Fields<'_>) -> Result<Vec<String>> {
    let Some(at) = f.take("stop") else { return Ok(Vec::new()) };
    let one = |at: &At<'_>| match at.string()? {
        "" => Err(at.refuse("is empty; it would end every answer at once")),
        text => Ok(text.to_string()),
    };
    if at.value.is_string() {
        return Ok(vec![one(&at)?]);
    }
    let list = at.list("strings")?;
    if list.len() > MOST_STOPS {
        return Err(at.refuse(format_args!("must have at most {MOST_STOPS} strings, has {}", list.len())));
    }
    list.iter().map(one).collect()
}

/// How an answer comes.
#[derive(Clone, Copy)]
pub(super) struct Streaming {
    pub stream: bool,
    /// Counts come at the end of the stream.
    pub include_usage: bool,
}

impl Streaming {
    /// The end of a stream of completions: the counts in a chunk without choices, if they are wanted, and a mark.
    pub(super) fn end(self, mut chunk: Value, totals: &Totals) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        if self.include_usage {
            chunk["usage"] = totals.of_completions();
            chunks.push(Chunk::of(&chunk));
        }
        if self.stream {
            chunks.push(Chunk { event: None, data: "[DONE]".to_string() });
        }
        chunks
    }
}

pub(super) fn streaming(f: &mut Fields<'_>, warnings: &mut Vec<String>) -> Result<Streaming> {
    let stream = f.get("stream", At::boolean)?.unwrap_or(false);
    let mut include_usage = false;
    if let Some(at) = f.take("stream_options") {
        if !stream {
            return Err(at.refuse("can only be given with `stream`: true"));
        }
        let mut options = at.object()?;
        include_usage = options.get("include_usage", At::boolean)?.unwrap_or(false);
        options.only("include_obfuscation", |v| *v == false, "must be false: streams are not padded here")?;
        options.rest(warnings);
    }
    Ok(Streaming { stream, include_usage })
}

/// The most likely tokens that are reported, where `flag` asks for any.
pub(super) fn top_logprobs(f: &mut Fields<'_>, flag: bool) -> Result<Option<usize>> {
    match f.take("top_logprobs") {
        Some(at) if !flag => Err(at.refuse("does nothing unless log-probabilities are asked for")),
        Some(at) => at.count(0..=MAX_LOGPROBS).map(Some),
        None => Ok(flag.then_some(0)),
    }
}

/// What only concerns OpenAI's servers: notes to them are accepted, services of theirs are refused.
pub(super) fn of_servers(f: &mut Fields<'_>) -> Result<()> {
    for name in ["user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"] {
        f.get(name, |v| v.string().map(|_| ()))?;
    }
    f.get("metadata", |v| v.object().map(|_| ()))?;
    f.only("store", |v| *v == false, "must be false: answers are not stored; send the conversation again")?;
    f.only(
        "service_tier",
        |v| v == "auto" || v == "default",
        "must be \"auto\" or \"default\": there is one tier here",
    )?;
    Ok(())
}

/// How long answers are: models have no switch for it.
pub(super) fn verbosity(f: &mut Fields<'_>) -> Result<()> {
    let why = "must be \"medium\": models have no switch for how much they write";
    f.only("verbosity", |v| v == "medium", why)
}

/// Services of chat completions that there are none of.
pub(super) fn not_of_chat(f: &mut Fields<'_>) -> Result<()> {
    verbosity(f)?;
    let text_only = |v: &Value| v.as_array().is_some_and(|list| list.len() == 1 && list[0] == "text");
    f.only("modalities", text_only, "must be [\"text\"]: other modalities are not supported yet")?;
    for name in ["audio", "prediction", "web_search_options"] {
        f.only(name, |_| false, "is not supported; leave it out")?;
    }
    f.only("functions", is_empty_list, "is not supported; give `tools`")?;
    f.only("function_call", |v| v == "none" || v == "auto", "is not supported; give `tool_choice`")
}
