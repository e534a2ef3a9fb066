//! `/v1/completions`: texts that are gone on with as they are.

use serde_json::{Value, json};

use super::answer::{Answer, Chunk, Finish, Shape};
use super::fields::{At, Fields, Result};
use super::given::Given;
use super::grammar;
use super::job::{Accepted, Generate, Job, Prompt};
use super::logprobs::{Lists, Said};
use super::model::Api;
use super::params::{self, MOST_ANSWERS, Streaming};
use super::reply::Parts;
use super::usage::Totals;
use crate::backend::MAX_LOGPROBS;
use crate::engine::GenerateParams;
use crate::text::{EncodeOptions, ReplyPart};

/// OpenAI's default.
const MAX_TOKENS: usize = 16;

pub(super) fn read(api: &Api, mut f: Fields<'_>, given: &Given) -> Result<Accepted> {
    let mut warnings = Vec::new();
    let model = api.named(&mut f)?;
    let prompt = f.need("prompt")?;
    let suffix = f.take("suffix").map(|at| fill(api, &prompt, &at)).transpose()?;
    let prompts = match suffix {
        Some(ids) => vec![ids],
        None => prompt.inputs(MOST_ANSWERS, |at| encode(api, at))?,
    };
    let streaming = params::streaming(&mut f, &mut warnings)?;
    let n = f.get("n", |v| v.count(1..=MOST_ANSWERS))?.unwrap_or(1);
    if prompts.len() * n > MOST_ANSWERS {
        let all = prompts.len() * n;
        return Err(
            prompt.refuse(format_args!("and `n` ask for {all} answers; one request has at most {MOST_ANSWERS}"))
        );
    }
    f.only("best_of", |v| *v == n, "must be equal to `n`: all answers are given")?;
    let echo = f.take("echo");
    let echoes = echo.as_ref().map_or(Ok(false), At::boolean)?;
    let logprobs = f.get("logprobs", |v| v.count(0..=MAX_LOGPROBS))?;
    if let Some(at) = echo.filter(|_| echoes && logprobs.is_some()) {
        return Err(at.refuse("cannot be given with `logprobs`: those of a prompt are not known"));
    }
    let params = GenerateParams {
        max_tokens: Some(f.get("max_tokens", |v| v.count(0..=usize::MAX))?.unwrap_or(MAX_TOKENS)),
        sampler: params::sampler(&mut f, api, given)?,
        stop: params::stop(&mut f)?,
        ignore_eos: f.get("ignore_eos", At::boolean)?.unwrap_or(false),
        logprobs,
        grammar: grammar::read(None, &mut f)?,
        ..GenerateParams::default()
    };
    params::of_servers(&mut f)?;
    f.rest(&mut warnings);
    // What the prompt reads like: of a list of ids the text that they stand for.
    let texts: Vec<_> = match &prompt.value {
        _ if !echoes => vec![String::new(); prompts.len()],
        Value::String(text) => vec![text.clone()],
        Value::Array(list) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).map(str::to_string).collect()
        }
        _ => {
            prompts.iter().map(|ids| String::from_utf8_lossy(&api.tokenizer.decode(ids, false)).into_owned()).collect()
        }
    };
    let choice = |text: &String| Choice { lists: logprobs.map(|_| Lists::default()), text: text.clone(), finish: None };
    let choices: Vec<_> = texts.iter().flat_map(|text| (0..n).map(move |_| choice(text))).collect();
    let parts = choices.iter().map(|_| Parts::Plain).collect();
    let shape = Completions { id: format!("cmpl-{}", given.id), created: given.now, model, streaming, choices };
    let answer = Answer::new(Box::new(shape), api.tokenizer.clone(), parts, n);
    let prompts = Prompt::times(prompts, n, &params);
    let generate = Generate { prompts, pictures: Vec::new(), stream: streaming.stream, answer };
    Ok(Accepted { job: Job::Generate(Box::new(generate)), warnings })
}

/// Names of control tokens are those tokens: callers of this endpoint write the format of the model themselves.
fn encode(api: &Api, at: &At<'_>) -> Result<Vec<u32>> {
    let text = at.value.as_str().ok_or_else(|| at.must("a string or a list of token ids"))?;
    let mut ids = api.tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true })?;
    // It is there twice where the caller has written it too.
    if api.tokenizer.bos().is_some_and(|bos| ids.starts_with(&[bos, bos])) {
        ids.remove(0);
    }
    Ok(ids)
}

/// What belongs between a prompt and a suffix is asked for in the order that models are trained on: prefix, suffix, middle.
fn fill(api: &Api, prompt: &At<'_>, suffix: &At<'_>) -> Result<Vec<u32>> {
    let (prefix, text) = (prompt.string()?, suffix.string()?);
    let Some([pre, suf, mid]) = api.fim else {
        return Err(suffix.refuse("cannot be given: the model has no tokens to fill in the middle of a text"));
    };
    let tokenizer = &api.tokenizer;
    let mut ids: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect();
    ids.push(pre);
    ids.extend(tokenizer.encode(prefix, EncodeOptions::default())?);
    ids.push(suf);
    ids.extend(tokenizer.encode(text, EncodeOptions::default())?);
    ids.push(mid);
    Ok(ids)
}

/// One of the answers. Its text starts with that of the prompt, where that is echoed.
struct Choice {
    text: String,
    lists: Option<Lists>,
    finish: Option<&'static str>,
}

struct Completions {
    id: String,
    created: u64,
    model: String,
    streaming: Streaming,
    choices: Vec<Choice>,
}

impl Completions {
    fn body(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    fn chunk(&self, index: usize, text: &str, logprobs: Option<Value>, finish: Option<&str>) -> Vec<Chunk> {
        if !self.streaming.stream {
            return Vec::new();
        }
        let choice = json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": finish });
        let mut chunk = self.body(json!([choice]));
        if self.streaming.include_usage {
            chunk["usage"] = Value::Null;
        }
        vec![Chunk::of(&chunk)]
    }
}

impl Shape for Completions {
    fn start(&mut self) -> Vec<Chunk> {
        let echoed = self.choices.iter().enumerate().filter(|(_, c)| !c.text.is_empty());
        echoed.flat_map(|(index, c)| self.chunk(index, &c.text, None, None)).collect()
    }

    fn push(&mut self, index: usize, parts: Vec<ReplyPart>, said: Option<Said>) -> Vec<Chunk> {
        let choice = &mut self.choices[index];
        // Nothing is read out of these texts.
        let text: String = parts
            .iter()
            .filter_map(|part| match part {
                ReplyPart::Content(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        choice.text.push_str(&text);
        let stream = self.streaming.stream;
        let told = choice.lists.as_mut().zip(said).and_then(|(lists, said)| {
            lists.add(&said);
            stream.then(|| lists.take())
        });
        if text.is_empty() && told.is_none() {
            return Vec::new();
        }
        self.chunk(index, &text, told, None)
    }

    fn end(&mut self, index: usize, finish: Finish) -> Vec<Chunk> {
        self.choices[index].finish = Some(finish.name());
        self.chunk(index, "", None, Some(finish.name()))
    }

    fn finish(&mut self, totals: &Totals) -> Vec<Chunk> {
        self.streaming.end(self.body(json!([])), totals)
    }

    fn whole(&mut self, totals: &Totals) -> Value {
        let choices = self.choices.iter_mut().enumerate().map(|(index, c)| {
            let logprobs = c.lists.as_mut().map(Lists::take);
            json!({ "index": index, "text": c.text, "logprobs": logprobs, "finish_reason": c.finish })
        });
        let choices = choices.collect();
        let mut body = self.body(choices);
        body["usage"] = totals.of_completions();
        body
    }
}
