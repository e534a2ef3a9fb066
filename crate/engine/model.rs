//! From a header to a prepared backend: the graph, the plan, the limits.

use std::collections::HashSet;

use crate::arch::{self, Wanted};
use crate::backend::{BLOCK, Backend, KvType, Limits, MAX_KEPT, MAX_SEGMENTS, Memory, cpu};
use crate::dtype::DType;
use crate::engine::embeds::Embeds;
use crate::engine::sequence::BEHIND_WINDOW;
use crate::engine::{Engine, Loader, Pooling, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Array, Gguf, Meta, Source};
use crate::graph::{Dim, Entry, Graph, Plan, State, StateId, StateRows};

/// The options of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Positions of the cache; `None` is the trained context length, at most 4096.
    pub n_ctx: Option<usize>,
    /// Tokens of one prefill step.
    pub max_tokens: usize,
    /// Rows of logits of one step: more than 1 only for callers that want all of them.
    pub max_outputs: usize,
    /// Loads the block for multi-token prediction too, if the file has one.
    pub mtp: bool,
    /// Makes embeddings instead of logits; `None` is as the file says.
    pub embeddings: Option<bool>,
    /// Prepares for images too, if the model sees: see [`Encoder`](super::Encoder).
    pub images: bool,
    /// Ignores metadata keys and tensors that the engine does not know, instead of refusing the file: the results may
    /// be wrong.
    pub allow_unknown: bool,
    /// Type of the KV cache, as answered by [`Backend::kv_type`].
    pub kv_type: KvType,
    /// Bytes that weights, cache and scratch may take together, as far as the host knows.
    pub memory: Option<u64>,
    /// Positions of the cache, of all sequences together: at least the context, which is the default.
    pub cache: Option<usize>,
    /// Sequences that run at once: a step may have a row of logits for each.
    pub sequences: usize,
    /// The most tokens that speculative decoding proposes at once; 0 without.
    pub drafts: usize,
    /// Lets the block for multi-token prediction predict only the first so many tokens of the vocabulary; `None` is all.
    /// Ids of byte-level BPE are ordered by how early they were merged, so the first are the most frequent, and the head is
    /// most of what the block of a small model reads. What it cannot predict the model still says.
    pub draft_vocab: Option<usize>,
}

impl Options {
    /// The same as `default()`, for constants.
    pub const DEFAULT: Self = Self {
        n_ctx: None,
        max_tokens: 128,
        max_outputs: 1,
        mtp: false,
        embeddings: None,
        images: false,
        allow_unknown: false,
        memory: None,
        kv_type: KvType::F32,
        cache: None,
        sequences: 1,
        drafts: 0,
        draft_vocab: None,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A model that fits a backend, before its weights have arrived.
#[derive(Clone, Debug)]
pub struct Model {
    /// What the backend prepares.
    pub plan: Plan,
    /// The sizes that it is prepared for.
    pub limits: Limits,
    /// The bytes of the file that it needs.
    pub loader: Loader,
    embeds: Option<Embeds>,
    drafts: usize,
    /// Of the header, so that saved sequences of other models are told apart.
    fingerprint: u64,
}

/// The context that is allocated if the caller gives none: a cache for the full trained length can be larger than the
/// weights.
const DEFAULT_CTX: usize = 4096;

/// Rows of an image, where they see each other.
const WHOLE_IMAGE: usize = 256;

/// Bytes that are handed to a backend at once, so that a tensor is not in memory twice.
const PIECE: usize = 8 << 20;

impl Model {
    /// Reads the configuration. Finds everything that is wrong with it before any weight is fetched.
    pub fn new(gguf: &Gguf, supports: &dyn Fn(DType) -> bool, options: &Options) -> Result<Self> {
        let pooling = Pooling::from_gguf(&gguf.meta)?;
        let embeddings = options.embeddings.unwrap_or(pooling.is_some());
        let Options { mtp, images, allow_unknown, .. } = *options;
        if embeddings && images {
            crate::bail!(InvalidArgument, "a model that makes embeddings takes no images; leave `images` out");
        }
        let wanted = Wanted { mtp, embeddings, images, allow_unknown };
        let mut graph = arch::build(gguf, supports, wanted)?;
        // Such a model cannot generate.
        let whole = !graph.is_causal(Entry::Trunk);
        if whole && options.embeddings == Some(false) {
            crate::bail!(
                InvalidArgument,
                "the model makes embeddings and cannot generate: its tokens see those after them; open it with \
                 `embeddings` on"
            );
        }
        let embeddings = embeddings || whole;
        if embeddings && (options.mtp || options.drafts > 0) {
            crate::bail!(
                InvalidArgument,
                "a model that makes embeddings predicts no tokens; leave `mtp` and `drafts` out, or open it with `embeddings` off"
            );
        }
        let options = &Options { embeddings: Some(embeddings), ..*options };
        let usual = if whole { Pooling::Mean } else { Pooling::Last };
        let embeds = embeddings.then_some(Embeds { pooling: pooling.unwrap_or(usual), whole });
        match options.draft_vocab {
            Some(0) => crate::bail!(
                InvalidArgument,
                "the block for multi-token prediction needs at least 1 token to choose from"
            ),
            Some(_) if graph.mtp.is_none() => crate::bail!(
                InvalidArgument,
                "`draft_vocab` is for the block for multi-token prediction, which the model was opened without, or its file \
                 has none; leave it out"
            ),
            Some(n) => graph = graph.with_mtp_vocab(n),
            None => {}
        }
        let trained = gguf.meta.u32(&gguf.meta.arch_key("context_length")?)? as usize;
        let n_ctx = options.n_ctx.unwrap_or(trained.min(DEFAULT_CTX));
        if n_ctx == 0 || options.max_tokens == 0 || options.max_outputs == 0 || options.sequences == 0 {
            crate::bail!(
                InvalidArgument,
                "the context, a step's tokens, its outputs and its sequences must be at least 1"
            );
        }
        if let Some(cache) = options.cache.filter(|cache| *cache < n_ctx) {
            crate::bail!(
                InvalidArgument,
                "a cache of {cache} positions does not hold a context of {n_ctx}; make it larger or the context shorter"
            );
        }
        let limits = limits(&graph, options, n_ctx);
        let loader = Loader::new(gguf, &graph);
        let suppressed = if embeddings { Vec::new() } else { suppressed(&gguf.meta, graph.n_vocab())? };
        let plan = Plan { suppressed, ..Plan::new(graph) };
        let model = Self { plan, limits, loader, embeds, drafts: options.drafts, fingerprint: gguf.fingerprint() };
        options.memory.map_or(Ok(()), |room| model.fits(room, options))?;
        Ok(model)
    }

    /// About how much memory a backend will hold once the cache is full: it may add some for its own use.
    pub fn memory(&self) -> Memory {
        self.memory_with(self.limits)
    }

    /// The same with other sizes. The sums of attention are those of the CPU.
    fn memory_with(&self, limits: Limits) -> Memory {
        memory_of(&self.plan, limits)
    }

    /// Bytes that one more position adds to the cache of a sequence, until windows are full.
    pub fn kv_bytes_per_token(&self) -> u64 {
        let rows = self.plan.graph.states.iter().filter(|s| !s.rows.is_recurrent());
        rows.map(|s| self.limits.kv.bytes(s.cols) as u64).sum()
    }

    /// The same with another context and type of the cache. A cache that was asked for keeps its proportion to the context.
    pub(super) fn memory_of(&self, options: &Options, n_ctx: usize) -> Memory {
        let cache = self.cache_of(options, n_ctx);
        self.memory_with(limits(&self.plan.graph, &Options { cache, ..*options }, n_ctx))
    }

    fn cache_of(&self, options: &Options, n_ctx: usize) -> Option<usize> {
        let grown = |cache: usize| (cache as f64 / self.limits.n_ctx as f64 * n_ctx as f64) as usize;
        options.cache.map(|cache| n_ctx.max(grown(cache)))
    }

    /// The longest context, up to its own, with which the model takes at most `room` bytes; 0 if none does.
    pub(super) fn longest(&self, room: u64, options: &Options) -> usize {
        let (mut most, mut over) = (0, self.limits.n_ctx.saturating_add(1));
        while over - most > 1 {
            let middle = most + (over - most) / 2;
            *if self.memory_of(options, middle).total() <= room { &mut most } else { &mut over } = middle;
        }
        most
    }

    /// Refuses a model that needs more than `room` bytes, and lists the parts of the sum.
    pub(super) fn fits(&self, room: u64, options: &Options) -> Result<()> {
        let n_ctx = self.limits.n_ctx;
        let memory = self.memory_of(options, n_ctx);
        if memory.total() <= room {
            return Ok(());
        }
        let most = self.longest(room, options);
        let remedy = match (most, self.cache_of(options, most)) {
            (0, _) => "use a smaller model or quantisation".to_string(),
            (most, Some(cache)) if cache >= most + BLOCK => {
                format!("a context of {most} tokens and a cache of {cache} would fit")
            }
            (most, _) => format!("a context of {most} tokens would fit"),
        };
        let [need, room, weights, cache, scratch] =
            [memory.total(), room, memory.weights, memory.cache(), memory.scratch].map(mib);
        crate::bail!(
            OutOfMemory,
            "the model needs {need}: {weights} of weights, {cache} of cache for {n_ctx} tokens and {scratch} of scratch; \
             {room} are available: {remedy}"
        );
    }

    /// Loads all weights of the header from the source of its tensors, one at a time, and opens a session.
    pub fn load(mut self, gguf: &Gguf, source: &dyn Source, mut backend: Box<dyn Backend>) -> Result<Session> {
        self.write(gguf, source, &mut *backend)?;
        self.finish(backend)
    }

    /// Prepares a backend and writes all weights to it.
    pub fn write(&mut self, gguf: &Gguf, source: &dyn Source, backend: &mut dyn Backend) -> Result<()> {
        write_weights((&self.plan, self.limits, &mut self.loader), gguf, source, backend)
    }

    /// Opens a session on a backend that was prepared with this plan and has all weights.
    pub fn finish(self, mut backend: Box<dyn Backend>) -> Result<Session> {
        self.loader.finish()?;
        backend.finish_weights()?;
        Ok(Session::new(Engine::new(backend, &self.plan, self.limits, self.embeds, self.drafts, self.fingerprint)))
    }
}

/// Prepares a backend and writes the weights of a plan to it, one at a time.
pub(super) fn write_weights(
    (plan, limits, loader): (&Plan, Limits, &mut Loader),
    gguf: &Gguf,
    source: &dyn Source,
    backend: &mut dyn Backend,
) -> Result<()> {
    backend.prepare(plan.clone(), limits)?;
    let wanted: HashSet<_> = plan.graph.weights.iter().map(|w| w.name.as_str()).collect();
    for t in gguf.tensors.iter().filter(|t| wanted.contains(t.name.as_str())) {
        let bytes = source.tensor(t)?;
        for (i, bytes) in bytes.chunks(PIECE).enumerate() {
            let start = i * PIECE;
            for piece in loader.place(t.offset + start as u64, bytes.len()) {
                backend.write_weight(piece.weight, piece.offset, &bytes[piece.bytes])?;
            }
            source.used(t, start..start + bytes.len());
        }
    }
    Ok(())
}

/// The sizes that a model is opened with.
fn limits(g: &Graph, options: &Options, n_ctx: usize) -> Limits {
    // Where tokens see those after them, a text runs in one step.
    let max_tokens = match (g.is_causal(Entry::Trunk), g.is_causal(Entry::Given)) {
        (false, _) => n_ctx,
        // As do the rows of an image, beside a token of other sequences.
        (true, false) => options.max_tokens.max(WHOLE_IMAGE + MAX_SEGMENTS).min(n_ctx),
        (true, true) => options.max_tokens.min(n_ctx),
    };
    let max_outputs = match options.embeddings {
        // Rows of hidden states are short: all of a step may be wanted.
        Some(true) => max_tokens,
        _ => options.max_outputs.max(options.sequences).max(options.drafts + 1).min(max_tokens),
    };
    // What each sequence has for itself may end in a block that is not full.
    let positions = options.cache.unwrap_or(n_ctx);
    let blocks = positions.div_ceil(BLOCK) + options.sequences - 1;
    let window = g.window().map_or(0, |w| w + BEHIND_WINDOW + max_tokens);
    let windows = options.sequences.saturating_mul(window.div_ceil(BLOCK) + 1);
    // The present one of each sequence, and those at the ends of its last prompt and answer.
    let slots = 1 + options.sequences.saturating_mul(3) + options.drafts.min(MAX_KEPT);
    let blocks = [blocks, blocks.min(windows)];
    Limits { n_ctx, max_tokens, max_outputs, kv: options.kv_type, blocks, slots }
}

/// Bytes of a matrix.
fn f32s(rows: usize, cols: usize) -> u64 {
    4u64.saturating_mul(rows as u64).saturating_mul(cols as u64)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What a plan takes with limits.
pub(super) fn memory_of(plan: &Plan, limits: Limits) -> Memory {
    let g = &plan.graph;
    let rows = |d| if d == Dim::Tokens { limits.max_tokens } else { limits.max_outputs };
    let given = f32s(limits.max_tokens, g.given_columns());
    let scratch = plan.slots.slots.iter().map(|s| f32s(rows(s.rows), s.cols)).chain([given]);
    let of_state = |(i, s): (u32, &State)| match s.rows {
        StateRows::Recurrent(n) => (limits.slots as u64).saturating_mul(f32s(n, s.cols)),
        StateRows::Ctx => {
            let positions = (limits.blocks[g.cache_kind(StateId(i)) as usize] as u64).saturating_mul(BLOCK as u64);
            positions.saturating_mul(limits.kv.bytes(s.cols) as u64)
        }
    };
    let states = |recurrent| {
        let of_kind = (0..).zip(&g.states).filter(|(_, s)| s.rows.is_recurrent() == recurrent);
        of_kind.map(of_state).fold(0, u64::saturating_add)
    };
    Memory {
        weights: g.weights.iter().map(|w| w.bytes() as u64).sum(),
        kv: states(false),
        states: states(true),
        scratch: scratch.fold(cpu::attention_bytes(g, limits.n_ctx), u64::saturating_add),
        staging: 0,
    }
}

/// The tokens that the file says must never be generated, such as placeholders of images.
fn suppressed(meta: &Meta, n_vocab: usize) -> Result<Vec<u32>> {
    let key = "tokenizer.ggml.suppress_tokens";
    let id = |id: i128| match u32::try_from(id) {
        Ok(id) if (id as usize) < n_vocab => Ok(id),
        _ => {
            let detail = format!("token {id} is outside the vocabulary of {n_vocab} tokens");
            Err(Error::new(ErrorKind::BadTokenizer, detail).at(format!("key `{key}`")))
        }
    };
    match meta.opt_array(key)? {
        None => Ok(Vec::new()),
        Some(Array::Uint(ids)) => ids.iter().map(|&n| id(n.into())).collect(),
        Some(Array::Int(ids)) => ids.iter().map(|&n| id(n.into())).collect(),
        Some(list) if list.is_empty() => Ok(Vec::new()),
        Some(_) => Err(Error::new(ErrorKind::WrongKeyType, "must be an array of integers").at(format!("key `{key}`"))),
    }
}
