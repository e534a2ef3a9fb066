//! What JavaScript gives by name. `web/src/shared/types.ts` and `protocol.ts` have the same fields, which a test compares.

use pagelm::backend::{Activations, Backend, KvType};
use pagelm::engine::choose::{BackendName, Kernels};
use pagelm::engine::{Options, VisionOptions};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::engine::wasm_bytes;
use crate::threads::cpu;

/// Generations that run at once. A page mostly has one conversation, and something short beside it; each more may hold
/// three recurrent states and the blocks of a window for itself.
const SEQUENCES: usize = 2;

/// How a model shall run. `Header::info` heeds those that decide whether it can.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EngineOptions {
    /// That of the model in answers.
    pub name: String,
    pub backend: BackendName,
    /// Those that the engine may have on the CPU, its own among them; 0 is one.
    pub threads: usize,
    /// `q8` where it is not given.
    pub activations: Option<Activations>,
    pub context_length: Option<usize>,
    pub mtp: bool,
    /// As the file says where it is not given.
    pub embeddings: Option<bool>,
    pub cache_tokens: Option<usize>,
    /// `SEQUENCES` where it is not given.
    pub sequences: Option<usize>,
    pub drafts: usize,
    pub draft_vocab: Option<usize>,
    pub allow_unknown: bool,
    /// Of an image; `VisionOptions` has the default.
    pub image_rows: Option<usize>,
    pub memory_limit: Option<u64>,
    /// Used on WebGPU; `f16` where it is not given.
    pub kv_type: Option<KvType>,
    /// The record of an earlier `measured`, or of none, where WebGPU's kernels shall be chosen.
    pub tuning: Option<String>,
    /// For which adapters, whatever this one is.
    pub kernels: Option<Kernels>,
    /// Bytes that the adapter binds at most: for `Header::info`, which asks for no device.
    pub max_binding: Option<u64>,
}

impl EngineOptions {
    /// Those that hold on every backend.
    pub fn model(&self) -> Options {
        let Self {
            context_length: n_ctx,
            mtp,
            embeddings,
            cache_tokens: cache,
            drafts,
            draft_vocab,
            allow_unknown,
            ..
        } = *self;
        let sequences = self.sequences.unwrap_or(SEQUENCES);
        Options { n_ctx, mtp, embeddings, cache, sequences, drafts, draft_vocab, allow_unknown, ..Options::default() }
    }

    /// Those of its encoder.
    pub fn vision(&self) -> VisionOptions {
        let max_rows = self.image_rows.unwrap_or(VisionOptions::default().max_rows);
        VisionOptions { max_rows, allow_unknown: self.allow_unknown }
    }

    /// Bytes that the model may take, as far as they are known.
    pub fn room(&self) -> Option<u64> {
        if self.backend == BackendName::Webgpu {
            return self.memory_limit;
        }
        // Weights and cache lie in this module's memory, of which there is 4 GiB at most.
        let room = (1 << 32) - wasm_bytes();
        Some(self.memory_limit.map_or(room, |limit| limit.min(room)))
    }

    /// The type of the cache that the backend makes of this one.
    pub fn kv_on_backend(&self, kv_type: KvType) -> KvType {
        if self.backend == BackendName::Webgpu { kv_type } else { cpu(1).kv_type(kv_type) }
    }
}

/// A conversation, and what its template gets beside it. The template's own reader takes them apart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chat {
    pub messages: Box<RawValue>,
    pub tools: Option<Box<RawValue>>,
    pub variables: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileOptions {
    pub depth: usize,
    pub reps: usize,
}
