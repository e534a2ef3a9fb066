//! OpenAI's API over a tiny model: what requests become, and what answers look like.

mod chat;
mod completions;
mod enforced;
mod fuzz;
mod pictures;
mod refused;
mod replay;
mod rerank;
mod responses;
mod runs;
mod tools;

use std::sync::Arc;

use pagelm::api::{Accepted, Api, ApiError, Chunk, Generate, Given, Job, Names};
use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{Batch, Engine, Options};
use pagelm::gguf::{Gguf, Meta, Value};
use pagelm::text::Tokenizer;
use pollster::block_on;
use serde_json::{Value as Json, json};

use crate::common::{fixtures, golden};

/// The format of Qwen's chats, with a switch for reasoning.
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}\
    NO{% endif %}{% endif %}";

const OPTIONS: Options = Options { n_ctx: Some(200), cache: Some(800), sequences: 4, ..Options::DEFAULT };

struct Model {
    api: Api,
    tokenizer: Arc<Tokenizer>,
    engine: Engine,
}

fn given() -> Given {
    Given { now: 1_700_000_000, id: "0a1b".to_string(), seed: 7, date: None }
}

fn open_with(name: &str, template: Option<&str>, change: impl Fn(&mut Meta), options: Options) -> Model {
    open_on(name, template, change, options, Box::new(Cpu::new(1)))
}

fn open_on(
    name: &str,
    template: Option<&str>,
    change: impl Fn(&mut Meta),
    options: Options,
    backend: Box<dyn Backend>,
) -> Model {
    let file = fixtures::bytes(&format!("golden/{name}.gguf"));
    let mut gguf = Gguf::parse(&file).unwrap();
    if let Some(template) = template {
        gguf.meta.insert("tokenizer.chat_template".to_string(), Value::String(template.into()));
    }
    change(&mut gguf.meta);
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf.meta).unwrap());
    let names = Names::These(vec!["tiny".to_string(), "also".to_string()]);
    let api = Api::new(&gguf.meta, tokenizer.clone(), names, 1_600_000_000).unwrap();
    let engine = golden::open(&file, backend, options).unwrap().into_engine();
    Model { api, tokenizer, engine }
}

fn open() -> Model {
    open_with("qwen2", Some(TEMPLATE), |_| {}, OPTIONS)
}

impl Model {
    fn accept(&self, path: &str, body: &Json) -> Result<Accepted, ApiError> {
        self.api.request("POST", path, body.to_string().as_bytes(), &given())
    }

    fn generate(&self, path: &str, body: &Json) -> Generate {
        let accepted = self.accept(path, body).unwrap_or_else(|e| panic!("{body}: {}", e.message));
        assert_eq!(accepted.warnings, Vec::<String>::new());
        match accepted.job {
            Job::Generate(generate) => *generate,
            _ => panic!("{path} generates"),
        }
    }

    /// Runs to the end: the events of the stream, and the whole body.
    fn run(&mut self, path: &str, body: &Json) -> (Vec<Chunk>, Json) {
        let Generate { prompts, mut answer, .. } = self.generate(path, body);
        let mut batch = Batch::new(4);
        for prompt in prompts {
            batch.add(&mut self.engine, &self.tokenizer, &prompt.ids, prompt.params, 0.0).unwrap();
        }
        let mut chunks = answer.start();
        while !batch.is_empty() {
            for (id, event) in block_on(batch.next(&mut self.engine, &self.tokenizer, &|| 0.0)).unwrap() {
                assert!(!answer.is_over());
                chunks.extend(answer.push(id as usize - 1, event.unwrap()));
            }
        }
        assert!(answer.is_over());
        (chunks, serde_json::from_str(&answer.whole()).unwrap())
    }

    fn whole(&mut self, path: &str, body: &Json) -> Json {
        let (chunks, whole) = self.run(path, body);
        assert_eq!(chunks, [], "events are for those who stream");
        whole
    }

    /// The events of the same request as a stream, without `[DONE]`.
    fn stream(&mut self, path: &str, body: &Json) -> Vec<Json> {
        let (chunks, _) = self.run(path, &with(body, json!({ "stream": true })));
        let (last, rest) = chunks.split_last().unwrap();
        assert_eq!(last.to_sse(), "data: [DONE]\n\n");
        rest.iter().map(|chunk| serde_json::from_str(&chunk.data).unwrap()).collect()
    }

    /// The error of a request.
    fn refused(&self, path: &str, body: &Json) -> ApiError {
        self.accept(path, body).err().unwrap_or_else(|| panic!("{path} accepts {body}"))
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, Default::default()).unwrap()
    }
}

/// A body with more fields.
fn with(body: &Json, more: Json) -> Json {
    let mut body = body.clone();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The strings at a place of each event, one after another.
fn joined(events: &[Json], place: &str) -> String {
    events.iter().filter_map(|e| e.pointer(place)?.as_str()).collect()
}
