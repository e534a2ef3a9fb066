//! From a header to a prepared backend: the graph, the plan, the limits.

use std::collections::HashSet;

use crate::arch;
use crate::backend::{Backend, Limits};
use crate::dtype::DType;
use crate::engine::{Loader, Session};
use crate::error::Result;
use crate::gguf::{Gguf, Source};
use crate::graph::Plan;

/// What a caller may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Positions of the cache; `None` takes what the model was trained for, at most 4096.
    pub n_ctx: Option<usize>,
    /// Tokens of one prefill step.
    pub max_tokens: usize,
    /// Rows of logits of one step: more than 1 only for callers that want all of them.
    pub max_outputs: usize,
    /// Loads the block for multi-token prediction too, where the file has one.
    pub mtp: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { n_ctx: None, max_tokens: 128, max_outputs: 1, mtp: false }
    }
}

/// A model that fits a backend, before its weights have come.
#[derive(Clone, Debug)]
pub struct Model {
    pub plan: Plan,
    pub limits: Limits,
    pub loader: Loader,
}

/// The context that is allocated when the caller names none: a cache for the full trained length can be larger than
/// the weights.
const DEFAULT_CTX: usize = 4096;

impl Model {
    /// Reads the configuration. Finds everything that is wrong with it before a byte of weights is fetched.
    pub fn new(gguf: &Gguf, supports: &dyn Fn(DType) -> bool, options: &Options) -> Result<Self> {
        let graph = if options.mtp { arch::build_with_mtp(gguf, supports) } else { arch::build(gguf, supports) }?;
        let trained = gguf.meta.u32(&gguf.meta.arch_key("context_length")?)? as usize;
        let n_ctx = options.n_ctx.unwrap_or(trained.min(DEFAULT_CTX));
        if n_ctx == 0 || options.max_tokens == 0 || options.max_outputs == 0 {
            crate::bail!(InvalidArgument, "the context, a step's tokens and its outputs must be at least 1");
        }
        let max_tokens = options.max_tokens.min(n_ctx);
        let limits = Limits { n_ctx, max_tokens, max_outputs: options.max_outputs.min(max_tokens) };
        let loader = Loader::new(gguf, &graph);
        Ok(Self { plan: Plan::new(graph), limits, loader })
    }

    /// Bytes of weights, and bytes of the cache with f32 rows.
    pub fn bytes(&self) -> (u64, u64) {
        let g = &self.plan.graph;
        let weights = g.weights.iter().map(|w| w.bytes() as u64).sum();
        let kv = g.states.iter().map(|s| 4 * self.limits.n_ctx as u64 * s.cols as u64).sum();
        (weights, kv)
    }

    /// Loads all weights of the header from where its tensors are, one at a time, and opens a session.
    pub fn load(mut self, gguf: &Gguf, source: &dyn Source, mut backend: Box<dyn Backend>) -> Result<Session> {
        backend.prepare(self.plan.clone(), self.limits)?;
        let wanted: HashSet<_> = self.plan.graph.weights.iter().map(|w| w.name.as_str()).collect();
        for t in gguf.tensors.iter().filter(|t| wanted.contains(t.name.as_str())) {
            let bytes = source.tensor(t)?;
            for piece in self.loader.place(t.offset, bytes.len()) {
                backend.write_weight(piece.weight, piece.offset, &bytes[piece.bytes])?;
            }
        }
        self.finish(backend)
    }

    /// Opens a session on a backend that was prepared with this plan and has all weights.
    pub fn finish(self, mut backend: Box<dyn Backend>) -> Result<Session> {
        self.loader.finish()?;
        backend.finish_weights()?;
        Ok(Session::new(backend, &self.plan, self.limits))
    }
}
