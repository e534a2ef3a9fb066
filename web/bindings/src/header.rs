//! The header of a file: what the model is, and whether it can run, before a byte of weights has come.

use std::collections::BTreeMap;
use std::sync::Arc;

use pagelm::backend::{Backend, KvType, Memory, webgpu};
use pagelm::engine::choose::{BackendName, Kernels};
use pagelm::engine::{FileSampling, KV_TYPES, Model, Options, VisionModel};
use pagelm::gguf::{Gguf, Progress, Reader};
use pagelm::{Error, ErrorKind};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::loading::Files;
use crate::options::EngineOptions;
use crate::threads::cpu;
use crate::value::{Problem, from_js, thrown, to_js};

/// Takes the start of a file, piece by piece.
#[wasm_bindgen]
pub struct Header {
    reader: Reader,
    gguf: Option<Arc<Gguf>>,
    /// That of the file for images beside it.
    encoder: Option<Arc<Gguf>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    architecture: String,
    name: Option<String>,
    /// The type that most bytes of the weights have.
    quantization: Option<String>,
    parameters: u64,
    /// Bytes of tensors, by type.
    types: BTreeMap<String, u64>,
    /// The length that the file must have at least.
    file_bytes: u64,
    trained_context: Option<u32>,
    chat_template: bool,
    /// Whether there is a file for images.
    images: bool,
    /// What the file recommends.
    sampling: FileSampling,
    /// Of a model that can run: the context, and the bytes of weights and cache.
    context_length: Option<usize>,
    weight_bytes: Option<u64>,
    cache_bytes: Option<u64>,
    scratch_bytes: Option<u64>,
    /// Why it cannot run.
    problem: Option<Problem>,
}

#[wasm_bindgen]
impl Header {
    /// `file_len`: the length of the file, where it is known.
    #[wasm_bindgen(constructor)]
    pub fn new(file_len: Option<f64>) -> Header {
        Header { reader: Reader::new(file_len.map(|n| n as u64)), gguf: None, encoder: None }
    }

    /// Takes the bytes that follow; true once the header is complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, JsValue> {
        if let Progress::Done(gguf) = self.reader.push(bytes).map_err(thrown)? {
            self.gguf = Some(Arc::new(*gguf));
        }
        Ok(self.gguf.is_some())
    }

    /// The error for a file that ended before its header did.
    pub fn truncated(&self) -> JsValue {
        thrown(self.reader.truncated())
    }

    /// Which part of a split model this is, from 0 up; 0 where it is whole.
    pub fn part(&self) -> Result<u32, JsValue> {
        Ok(self.gguf()?.split().map_err(thrown)?.map_or(0, |part| part.no))
    }

    /// The header of a split model: those of all its parts, the bytes at which these start where they lie one after
    /// another, and their names.
    pub fn join(parts: Vec<Header>, starts: Vec<f64>, names: Vec<String>) -> Result<Header, JsValue> {
        let placed = parts
            .iter()
            .zip(starts)
            .zip(names)
            .map(|((header, start), name)| Ok((Gguf::clone(header.gguf()?), start as u64, name)));
        let gguf = Gguf::join(placed.collect::<Result<_, JsValue>>()?).map_err(thrown)?;
        Ok(Header { reader: Reader::new(None), gguf: Some(Arc::new(gguf)), encoder: None })
    }

    /// Puts the header of the file for images beside that of the model.
    #[wasm_bindgen(js_name = setEncoder)]
    pub fn set_encoder(&mut self, encoder: Header) {
        self.encoder = encoder.gguf;
    }

    /// What the model is, and whether the backend of the options can run it.
    pub fn info(&self, options: &JsValue) -> Result<JsValue, JsValue> {
        let gguf = self.gguf()?;
        let options: EngineOptions = from_js("options", options)?;
        let mut types = BTreeMap::new();
        for t in &gguf.tensors {
            *types.entry(t.dtype.to_string()).or_insert(0) += t.len;
        }
        let planned = self.plan(&options);
        let model = planned.as_ref().map(|(model, ..)| model);
        let memory = planned.as_ref().map(|(model, encoder, _)| both(model.memory(), encoder.as_ref())).ok();
        let meta = &gguf.meta;
        let sampling = FileSampling::from_gguf(meta);
        to_js(&Info {
            // A part of a split model may say nothing of itself; its problem says why.
            architecture: match (meta.architecture(), model) {
                (Err(_), Err(problem)) => return Err(thrown(problem.clone())),
                (name, _) => name.map_err(thrown)?.to_owned(),
            },
            name: meta.opt_string("general.name").map_err(thrown)?.map(str::to_owned),
            quantization: types.iter().max_by_key(|t| t.1).map(|t| t.0.clone()),
            parameters: gguf.tensors.iter().map(|t| t.dims.iter().product::<u64>()).sum(),
            types,
            file_bytes: gguf.end() + self.encoder.as_ref().map_or(0, |encoder| encoder.end()),
            trained_context: meta.arch_key("context_length").and_then(|k| meta.opt_u32(&k)).map_err(thrown)?,
            chat_template: meta.get("tokenizer.chat_template").is_some(),
            images: self.encoder.is_some(),
            sampling: sampling.clone().unwrap_or_default(),
            context_length: model.ok().map(|m| m.limits.n_ctx),
            weight_bytes: memory.map(|m| m.weights),
            cache_bytes: memory.map(|m| m.cache()),
            scratch_bytes: memory.map(|m| m.scratch),
            problem: model.err().or(sampling.as_ref().err()).map(Problem::from),
        })
    }

    /// The options with which the model fits on the backend of the given ones, as close to these as they can be.
    pub fn fit(&self, options: &JsValue) -> Result<JsValue, JsValue> {
        let given: EngineOptions = from_js("options", options)?;
        let (model, encoder, options) = self.plan(&given).map_err(thrown)?;
        let all = given.kv_type.map_or_else(|| KV_TYPES.to_vec(), |one| vec![one]);
        let kv_types: Vec<_> = all.into_iter().map(|t| given.kv_on_backend(t)).collect();
        let taken = encoder.as_ref().map_or(0, |encoder| encoder.memory().total());
        let room = given.room().unwrap_or(u64::MAX).saturating_sub(taken);
        let mut fit = model.fit(&options, &kv_types, room).map_err(thrown)?;
        fit.memory = both(fit.memory, encoder.as_ref());
        to_js(&fit)
    }

    /// Makes the engine, ready to take weights. On the CPU it has one thread, and room for others that JavaScript may lend.
    pub async fn open(&self, options: JsValue) -> Result<Engine, JsValue> {
        let files = Files { model: self.gguf()?, encoder: self.encoder.as_deref() };
        Engine::open(files, from_js("options", &options)?).await.map_err(thrown)
    }

    fn gguf(&self) -> Result<&Arc<Gguf>, JsValue> {
        let incomplete = || thrown(Error::new(ErrorKind::InvalidState, "the header is not complete yet"));
        self.gguf.as_ref().ok_or_else(incomplete)
    }
}

impl Header {
    /// The model and its encoder as the backend of the options would run them, and all options of the model.
    fn plan(&self, given: &EngineOptions) -> pagelm::Result<(Model, Option<VisionModel>, Options)> {
        let incomplete = || Error::new(ErrorKind::InvalidState, "the header is not complete yet");
        let files = Files { model: self.gguf.as_ref().ok_or_else(incomplete)?, encoder: self.encoder.as_deref() };
        let kv_type = given.kv_on_backend(given.kv_type.unwrap_or(KvType::F16));
        if given.backend != BackendName::Webgpu {
            let cpu = cpu(1);
            let options = Options { max_tokens: cpu.max_tokens(), kv_type, ..files.options(given) };
            let (model, encoder) = files.models(&|d| cpu.supports(d), given, &options)?;
            return Ok((model, encoder, options));
        }
        let software = given.kernels == Some(Kernels::Software);
        let options = Options { max_tokens: webgpu::max_tokens(software), kv_type, ..files.options(given) };
        let (model, encoder) = files.models(&webgpu::supports, given, &options)?;
        let check = |plan, limits| webgpu::check_limits(plan, limits, software, given.max_binding.unwrap_or(u64::MAX));
        check(&model.plan, model.limits)?;
        encoder.as_ref().map_or(Ok(()), |encoder| check(&encoder.plan, encoder.limits))?;
        Ok((model, encoder, options))
    }
}

/// With what the encoder takes beside the model.
fn both(model: Memory, encoder: Option<&VisionModel>) -> Memory {
    model.plus(encoder.map(VisionModel::memory).unwrap_or_default())
}
