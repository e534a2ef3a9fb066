//! One model on one backend: first it takes weights, then it runs.

use std::sync::Arc;

use pagelm::api::{Api, Names, Runs};
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{self, Clock, WebGpu};
use pagelm::backend::{Activations, Backend, Counters, KvType, Memory};
use pagelm::engine::choose::{BackendName, Kernels};
use pagelm::engine::{self, Encoder, Options, VisionModel};
use pagelm::gguf::Gguf;
use pagelm::graph::WeightId;
use pagelm::text::{ChatTemplate, Tokenizer};
use pagelm::{Error, ErrorKind, Result};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::errands::Later;
use crate::loading::{Device, ENCODER_WEIGHTS, Files, Loading, raw};
use crate::options::{EngineOptions, ProfileOptions};
use crate::sessions::Sessions;
use crate::threads::{cpu, running};
use crate::value::{from_js, thrown, to_js};

#[wasm_bindgen]
pub struct Engine {
    state: State,
    backend: &'static str,
    adapter: Option<webgpu::AdapterInfo>,
    measured: Option<String>,
    n_ctx: usize,
    /// Bytes of weights that came through this module's memory.
    copied: u64,
    /// How many generations run at once.
    sequences: usize,
}

enum State {
    Loading(Box<Loading>, Later<Text>),
    Ready(Ready, Text),
    /// Between the two, or after loading failed.
    Failed,
}

/// What the model needs to know of text. An error here matters only to callers that use it.
pub(crate) struct Text {
    tokenizer: Result<Arc<Tokenizer>>,
    pub template: Result<ChatTemplate>,
    api: Result<Api>,
}

impl Text {
    fn new(gguf: &Gguf, name: String, images: bool, created: u64) -> Self {
        let tokenizer = Tokenizer::from_gguf(&gguf.meta).map(Arc::new);
        let api = |tokenizer| {
            let api = Api::new(&gguf.meta, tokenizer, Names::Any(name), created)?;
            Ok(if images { api.with_images() } else { api })
        };
        Self { api: tokenizer.clone().and_then(api), tokenizer, template: ChatTemplate::from_gguf(&gguf.meta) }
    }

    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer, JsValue> {
        self.tokenizer.as_deref().map_err(|e| thrown(e.clone()))
    }
}

/// A model with all its weights, and what it runs.
pub(crate) struct Ready {
    pub engine: engine::Engine,
    pub encoder: Option<Encoder>,
    pub runs: Runs,
    pub sessions: Sessions,
}

impl Engine {
    pub(crate) async fn open(files: Files<'_>, given: EngineOptions) -> Result<Engine> {
        let gguf = files.model;
        let activations = given.activations.unwrap_or(Activations::Q8);
        let (mut device, adapter) = match given.backend {
            BackendName::Cpu => (Device::Cpu(Box::new(cpu(given.threads.max(1)).activations(activations))), None),
            BackendName::Reference => (Device::Reference(Box::new(Reference::with_activations(activations))), None),
            BackendName::Webgpu => {
                let software = given.kernels.map(|k| k == Kernels::Software);
                let gpu = WebGpu::new(webgpu::Options { activations, software, ..webgpu::Options::default() }).await?;
                let adapter = gpu.adapter().clone();
                (Device::Gpu(Box::new(gpu)), Some(adapter))
            }
        };
        let backend = device.backend();
        let (max_tokens, kv_type) = (backend.max_tokens(), backend.kv_type(given.kv_type.unwrap_or(KvType::F16)));
        let options = Options { max_tokens, kv_type, memory: given.room(), ..files.options(&given) };
        let (model, encoder) = files.models(&|d| backend.supports(d), &given, &options)?;
        let mut measured = None;
        if let (Device::Gpu(gpu), Some(record)) = (&mut device, given.tuning)
            && !gpu.adopt(&record)
        {
            let clock = Clock { now: &milliseconds, gpu: true };
            measured = gpu.tune(&model.plan, model.limits, clock).await?;
        }
        device.backend().prepare(model.plan.clone(), model.limits)?;
        let beside = |encoder: VisionModel| {
            let mut beside = device.beside();
            beside.backend().prepare(encoder.plan.clone(), encoder.limits)?;
            Ok::<_, Error>((encoder, beside))
        };
        let encoder = encoder.map(beside).transpose().map_err(|e| e.at("mmproj"))?;
        let created = (js_sys::Date::now() / 1000.0) as u64;
        let (gguf, images) = (Arc::clone(gguf), encoder.is_some());
        // Its tables take longer than the rest of this, and are needed last.
        let text = Later::new(move || Text::new(&gguf, given.name, images, created));
        Ok(Engine {
            backend: device.get().name(),
            n_ctx: model.limits.n_ctx,
            state: State::Loading(Box::new(Loading { model, device, encoder }), text),
            adapter,
            measured,
            copied: 0,
            sequences: options.sequences,
        })
    }

    fn loading(&mut self) -> Result<&mut Loading, JsValue> {
        match &mut self.state {
            State::Loading(loading, _) => Ok(loading),
            _ => Err(wrong_state("all weights came already, or loading failed")),
        }
    }

    pub(crate) fn text(&self) -> Result<&Text, JsValue> {
        match &self.state {
            State::Ready(_, text) => Ok(text),
            _ => Err(wrong_state("the weights are not complete")),
        }
    }

    pub(crate) fn ready(&mut self) -> Result<&mut Ready, JsValue> {
        match &mut self.state {
            State::Ready(ready, _) => Ok(ready),
            _ => Err(wrong_state("the weights are not complete")),
        }
    }

    /// The parts that generations need at once.
    pub(crate) fn parts(&mut self) -> Result<(&mut Ready, &Tokenizer, Result<&Api, &Error>), JsValue> {
        let State::Ready(ready, text) = &mut self.state else {
            return Err(wrong_state("the weights are not complete"));
        };
        Ok((ready, text.tokenizer()?, text.api.as_ref()))
    }
}

/// Loading.
#[wasm_bindgen]
impl Engine {
    /// What choosing kernels found, to be kept and given to the next `open` with this adapter; undefined where nothing
    /// was measured.
    pub fn measured(&self) -> Option<String> {
        self.measured.clone()
    }

    /// Takes note of `len` bytes at `offset` of the file and says where they go. The file of the encoder begins at 2^50.
    pub fn targets(&mut self, offset: f64, len: usize) -> Result<JsValue, JsValue> {
        let targets = self.loading()?.targets(offset as u64, len)?;
        to_js(&targets)
    }

    pub fn write(&mut self, weight: u32, offset: usize, bytes: &[u8]) -> Result<(), JsValue> {
        self.copied += bytes.len() as u64;
        let Loading { device, encoder, .. } = self.loading()?;
        let (device, weight) = match encoder {
            Some((_, device)) if weight >= ENCODER_WEIGHTS => (device, weight - ENCODER_WEIGHTS),
            _ => (device, weight),
        };
        device.backend().write_weight(WeightId(weight), offset, bytes).map_err(thrown)
    }

    /// The GPU queue for `writeBuffer`, or null on the CPU.
    pub fn queue(&mut self) -> Result<JsValue, JsValue> {
        match &self.loading()?.device {
            Device::Cpu(_) | Device::Reference(_) => Ok(JsValue::NULL),
            Device::Gpu(gpu) => raw(gpu.queue().as_webgpu()),
        }
    }

    /// What the GPU reported by now: browsers tell of a failed allocation after a while only.
    pub fn check(&mut self) -> Result<(), JsValue> {
        if let Device::Gpu(gpu) = &self.loading()?.device { gpu.check().map_err(thrown) } else { Ok(()) }
    }

    /// Ends loading. Fails where weights are missing.
    pub fn finish(&mut self) -> Result<(), JsValue> {
        let State::Loading(loading, text) = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(wrong_state("all weights came already, or loading failed"));
        };
        let Loading { model, device, encoder } = *loading;
        let on_cpu = matches!(device, Device::Cpu(_));
        let mut engine = model.finish(device.boxed()).map_err(thrown)?.into_engine();
        if on_cpu {
            engine.run_in_slices(None);
        }
        let encoder = encoder.map(|(encoder, device)| encoder.finish(device.boxed())).transpose();
        let encoder = encoder.map_err(|e| thrown(e.at("mmproj")))?;
        let (runs, sessions) = (Runs::new(self.sequences), Sessions::default());
        let text = text.take();
        self.state = State::Ready(Ready { engine, encoder, runs, sessions }, text);
        Ok(())
    }
}

/// What there is beside generations and sessions.
#[wasm_bindgen]
impl Engine {
    /// What a decoded token costs after `depth` others, kernel by kernel, the mean of `reps`. On a GPU with a clock.
    pub async fn profile(&mut self, options: JsValue) -> Result<JsValue, JsValue> {
        let ProfileOptions { depth, reps } = from_js("options", &options)?;
        let Ready { engine, runs, sessions, .. } = self.ready()?;
        if !(runs.is_empty() && sessions.is_empty()) {
            return Err(wrong_state("generations or sessions use the cache; profile once they have ended"));
        }
        engine.forget_idle();
        to_js(&engine.profile(depth, reps).await.map_err(thrown)?)
    }

    pub fn tokenize(&self, text: &str, options: &JsValue) -> Result<Vec<u32>, JsValue> {
        self.text()?.tokenizer()?.encode(text, from_js("options", options)?).map_err(thrown)
    }

    pub fn detokenize(&self, ids: Vec<u32>, show_special: bool) -> Result<JsValue, JsValue> {
        Ok(String::from_utf8_lossy(&self.text()?.tokenizer()?.decode(&ids, show_special)).as_ref().into())
    }

    /// What the engine is and what it did: counters are deterministic, so tests assert on them.
    pub fn stats(&mut self) -> Result<JsValue, JsValue> {
        let (backend, context_length, sequences) = (self.backend, self.n_ctx, self.sequences);
        let (device, encoder, held): (&dyn Backend, Option<&dyn Backend>, _) = match &mut self.state {
            State::Ready(Ready { engine, encoder, .. }, _) => {
                let held = engine.held();
                (engine.backend(), encoder.as_ref().map(Encoder::backend), held)
            }
            State::Loading(l, _) => (l.device.get(), l.encoder.as_ref().map(|(_, d)| d.get()), Default::default()),
            State::Failed => return Err(wrong_state("loading failed")),
        };
        let (counters, wasm_bytes) = (device.counters(), wasm_bytes());
        let memory = device.memory().plus(encoder.map(Backend::memory).unwrap_or_default());
        let images = encoder.map_or(0, |encoder| encoder.counters().steps);
        let adapter = self.adapter.as_ref();
        let (threads, weight_bytes_copied) = (running(), self.copied);
        let held = Held { blocks: held.0.iter().sum(), states: held.1 };
        to_js(&Stats {
            backend,
            adapter,
            context_length,
            sequences,
            threads,
            images,
            counters,
            memory,
            held,
            weight_bytes_copied,
            wasm_bytes,
        })
    }
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn milliseconds() -> f64;
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats<'a> {
    backend: &'static str,
    adapter: Option<&'a webgpu::AdapterInfo>,
    context_length: usize,
    sequences: usize,
    /// Threads that compute now.
    threads: usize,
    /// Images that were encoded.
    images: u64,
    counters: Counters,
    memory: Memory,
    held: Held,
    /// Bytes of weights that came through this module's memory: nearly none on a GPU.
    weight_bytes_copied: u64,
    /// Bytes of this module's memory. It never shrinks, so this is the peak too.
    wasm_bytes: u64,
}

/// Parts of the cache that sequences hold, idle ones too.
#[derive(Serialize)]
struct Held {
    blocks: usize,
    states: usize,
}

/// Bytes of this module's memory.
pub(crate) fn wasm_bytes() -> u64 {
    core::arch::wasm32::memory_size(0) as u64 * 65536
}

pub(crate) fn wrong_state(detail: &str) -> JsValue {
    thrown(Error::new(ErrorKind::InvalidState, detail))
}
