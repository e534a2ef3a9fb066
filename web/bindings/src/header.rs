//! The header of a file: what the model is, and whether it can run, before a byte of weights has come.

use std::collections::BTreeMap;

use pagelm::backend::{Backend, KvType, webgpu};
use pagelm::engine::choose::{BackendName, Kernels};
use pagelm::engine::{FileSampling, KV_TYPES, Model, Options};
use pagelm::gguf::{Gguf, Progress, Reader};
use pagelm::{Error, ErrorKind};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::options::EngineOptions;
use crate::threads::cpu;
use crate::value::{Problem, from_js, thrown, to_js};

/// Takes the start of a file, piece by piece.
#[wasm_bindgen]
pub struct Header {
    reader: Reader,
    gguf: Option<Gguf>,
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
        Header { reader: Reader::new(file_len.map(|n| n as u64)), gguf: None }
    }

    /// Takes the bytes that follow; true once the header is complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<bool, JsValue> {
        if let Progress::Done(gguf) = self.reader.push(bytes).map_err(thrown)? {
            self.gguf = Some(*gguf);
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
            .map(|((header, start), name)| Ok((header.gguf()?.clone(), start as u64, name)));
        let gguf = Gguf::join(placed.collect::<Result<_, JsValue>>()?).map_err(thrown)?;
        Ok(Header { reader: Reader::new(None), gguf: Some(gguf) })
    }

    /// What the model is, and whether the backend of the options can run it.
    pub fn info(&self, options: &JsValue) -> Result<JsValue, JsValue> {
        let gguf = self.gguf()?;
        let options: EngineOptions = from_js("options", options)?;
        let mut types = BTreeMap::new();
        for t in &gguf.tensors {
            *types.entry(t.dtype.to_string()).or_insert(0) += t.len;
        }
        let model = plan(gguf, &options).map(|(model, _)| model);
        let memory = model.as_ref().map(Model::memory).ok();
        let meta = &gguf.meta;
        let sampling = FileSampling::from_gguf(meta);
        to_js(&Info {
            // A part of a split model may say nothing of itself; its problem says why.
            architecture: match (meta.architecture(), &model) {
                (Err(_), Err(problem)) => return Err(thrown(problem.clone())),
                (name, _) => name.map_err(thrown)?.to_owned(),
            },
            name: meta.opt_string("general.name").map_err(thrown)?.map(str::to_owned),
            quantization: types.iter().max_by_key(|t| t.1).map(|t| t.0.clone()),
            parameters: gguf.tensors.iter().map(|t| t.dims.iter().product::<u64>()).sum(),
            types,
            file_bytes: gguf.end(),
            trained_context: meta.arch_key("context_length").and_then(|k| meta.opt_u32(&k)).map_err(thrown)?,
            chat_template: meta.get("tokenizer.chat_template").is_some(),
            sampling: sampling.clone().unwrap_or_default(),
            context_length: model.as_ref().ok().map(|m| m.limits.n_ctx),
            weight_bytes: memory.map(|m| m.weights),
            cache_bytes: memory.map(|m| m.cache()),
            scratch_bytes: memory.map(|m| m.scratch),
            problem: model.as_ref().err().or(sampling.as_ref().err()).map(Problem::from),
        })
    }

    /// The options with which the model fits on the backend of the given ones, as close to these as they can be.
    pub fn fit(&self, options: &JsValue) -> Result<JsValue, JsValue> {
        let given: EngineOptions = from_js("options", options)?;
        let (model, options) = plan(self.gguf()?, &given).map_err(thrown)?;
        let all = given.kv_type.map_or_else(|| KV_TYPES.to_vec(), |one| vec![one]);
        let kv_types: Vec<_> = all.into_iter().map(|t| given.kv_on_backend(t)).collect();
        to_js(&model.fit(&options, &kv_types, given.room().unwrap_or(u64::MAX)).map_err(thrown)?)
    }

    /// Makes the engine, ready to take weights. On the CPU it has one thread, and room for others that JavaScript may lend.
    pub async fn open(&self, options: JsValue) -> Result<Engine, JsValue> {
        Engine::open(self.gguf()?, from_js("options", &options)?).await.map_err(thrown)
    }

    fn gguf(&self) -> Result<&Gguf, JsValue> {
        let incomplete = || thrown(Error::new(ErrorKind::InvalidState, "the header is not complete yet"));
        self.gguf.as_ref().ok_or_else(incomplete)
    }
}

/// The model as the backend of the options would run it, and all its options.
fn plan(gguf: &Gguf, given: &EngineOptions) -> pagelm::Result<(Model, Options)> {
    let kv_type = given.kv_on_backend(given.kv_type.unwrap_or(KvType::F16));
    if given.backend != BackendName::Webgpu {
        let cpu = cpu(1);
        let options = Options { max_tokens: cpu.max_tokens(), kv_type, ..given.model() };
        return Ok((Model::new(gguf, &|d| cpu.supports(d), &options)?, options));
    }
    let software = given.kernels == Some(Kernels::Software);
    let options = Options { max_tokens: webgpu::max_tokens(software), kv_type, ..given.model() };
    let model = Model::new(gguf, &webgpu::supports, &options)?;
    webgpu::check_limits(&model.plan, model.limits, software, given.max_binding.unwrap_or(u64::MAX))?;
    Ok((model, options))
}
