//! A model that takes its weights, and the part of it that sees beside it.

use std::sync::Arc;

use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{Target, WebGpu};
use pagelm::engine::{Model, Options, VisionModel};
use pagelm::gguf::Gguf;
use pagelm::{DType, Error, ErrorKind, Result};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::options::EngineOptions;
use crate::value::thrown;

/// A model and its encoder that take weights.
pub struct Loading {
    pub model: Model,
    pub device: Device,
    /// With a backend on the same device.
    pub encoder: Option<(VisionModel, Device)>,
}

/// What JavaScript adds to the places of the encoder's file: no model is so long. And `targets` to the numbers of its weights.
const ENCODER_AT: u64 = 1 << 50;
pub const ENCODER_WEIGHTS: u32 = 1 << 31;

/// The headers of a model and of its encoder.
pub struct Files<'a> {
    pub model: &'a Arc<Gguf>,
    pub encoder: Option<&'a Gguf>,
}

impl Files<'_> {
    pub fn options(&self, given: &EngineOptions) -> Options {
        Options { images: self.encoder.is_some(), ..given.model() }
    }

    /// Finds all that is wrong with them.
    pub fn models(
        &self,
        supports: &dyn Fn(DType) -> bool,
        given: &EngineOptions,
        options: &Options,
    ) -> Result<(Model, Option<VisionModel>)> {
        let encoder = self.encoder.map(|gguf| VisionModel::new(gguf, supports, &given.vision())).transpose();
        let encoder = encoder.map_err(|e| e.at("mmproj"))?;
        // Both share the room.
        let taken = encoder.as_ref().map_or(0, |encoder| encoder.memory().total());
        let memory = options.memory.map(|room| room.saturating_sub(taken));
        let model = Model::new(self.model, supports, &Options { memory, ..*options })?;
        if let Some(encoder) = &encoder {
            encoder.check(&model).map_err(|e| e.at("mmproj"))?;
        }
        Ok((model, encoder))
    }
}

pub enum Device {
    Cpu(Box<Cpu>),
    Reference(Box<Reference>),
    Gpu(Box<WebGpu>),
}

impl Device {
    /// Another backend on it.
    pub fn beside(&self) -> Device {
        match self {
            Device::Cpu(b) => Device::Cpu(Box::new(b.beside())),
            Device::Reference(b) => Device::Reference(Box::new(b.beside())),
            Device::Gpu(b) => Device::Gpu(Box::new(b.beside())),
        }
    }

    pub fn boxed(self) -> Box<dyn Backend> {
        match self {
            Device::Cpu(b) => b,
            Device::Reference(b) => b,
            Device::Gpu(b) => b,
        }
    }

    pub fn get(&self) -> &dyn Backend {
        match self {
            Device::Cpu(b) => &**b,
            Device::Reference(b) => &**b,
            Device::Gpu(b) => &**b,
        }
    }

    pub fn backend(&mut self) -> &mut dyn Backend {
        match self {
            Device::Cpu(b) => &mut **b,
            Device::Reference(b) => &mut **b,
            Device::Gpu(b) => &mut **b,
        }
    }
}

impl Loading {
    /// Where the `len` bytes at `offset` of the file go.
    pub fn targets(&mut self, offset: u64, len: usize) -> Result<Vec<BytesTarget>, JsValue> {
        let Loading { model, device, encoder } = self;
        let mut targets = Vec::new();
        let (loader, device, at, first) = match encoder {
            Some((encoder, device)) if offset >= ENCODER_AT => {
                (&mut encoder.loader, device, offset - ENCODER_AT, ENCODER_WEIGHTS)
            }
            _ => (&mut model.loader, device, offset, 0),
        };
        for piece in loader.place(at, len) {
            let (mut start, mut at) = (piece.bytes.start, piece.offset);
            while start < piece.bytes.end {
                let left = piece.bytes.end - start;
                let target = match device {
                    Device::Cpu(_) | Device::Reference(_) => Target::Write { len: left },
                    Device::Gpu(gpu) => gpu.weight_target(piece.weight, at, left).map_err(thrown)?,
                };
                let (buffer, buffer_offset, len) = match target {
                    Target::Raw { buffer, offset, len } => (raw(buffer.as_webgpu())?, offset, len),
                    Target::Write { len } => (JsValue::NULL, 0, len),
                };
                let end = start + len;
                targets.push(BytesTarget {
                    start,
                    end,
                    buffer,
                    buffer_offset,
                    weight: first + piece.weight.0,
                    weight_offset: at,
                });
                start = end;
                at += len;
            }
        }
        Ok(targets)
    }
}

/// Bytes `start..end` of a piece go to `buffer_offset` of the GPU's buffer, or, where that is null, through
/// `write(weight, weight_offset, bytes)`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BytesTarget {
    start: usize,
    end: usize,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    buffer: JsValue,
    buffer_offset: u64,
    weight: u32,
    weight_offset: usize,
}

/// The JavaScript object behind one of wgpu's.
pub fn raw<T: AsRef<JsValue>>(handle: Option<&T>) -> Result<JsValue, JsValue> {
    let missing = || thrown(Error::new(ErrorKind::GpuError, "the device is not one of the browser's"));
    handle.map(|h| h.as_ref().clone()).ok_or_else(missing)
}
