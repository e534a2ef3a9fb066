//! pagelm: language models from GGUF files, in a web page and natively, on one graph and cache engine.
//!
//! Modules import only downwards (a test keeps it so):
//!
//! ```text
//! hosts      web/bindings (a page)      native-metal (the command)      tests
//! api        OpenAI's HTTP API, without HTTP
//! engine     choose . load . model . steps . sampler . generate . batch . session
//! grammar                               what an answer may be
//! arch | backend | text                 what a model is | how a plan runs | strings <-> ids
//! graph      ops, builder, inference, verifier, passes, slots, plan
//! hf | hub | image                      checkpoints as if they were GGUF | models by name | pixels as models read them
//! gguf  quant                           headers and metadata | packed blocks
//! error  dtype
//! ```
//!
//! # The path of a token
//!
//! A host reads a header with [`gguf::Reader`]. [`engine::Model`] asks [`arch`] for the graph, makes a
//! [`graph::Plan`] of it, and its [`engine::Loader`] says which bytes of the file go to which weight of a
//! [`backend::Backend`]. [`text::ChatTemplate`] and [`text::Tokenizer`] turn messages into ids. From then on each call of
//! [`engine::Generation::next`] is one step: [`engine::Engine`] checks it and knows its position, the backend runs the
//! plan's nodes and gives logits back, [`engine::Sampler`] chooses an id, and [`text::TextStream`] lets go of the
//! characters that are whole and cannot be the start of a stop string. [`text::ReplyParser`] reads reasoning and calls of
//! tools out of that text.
//!
//! # Example
//!
//! A whole file in memory, on the CPU. `examples/` has a program that streams, and a host that loads in pieces.
//!
//! ```
//! use pagelm::backend::Backend;
//! use pagelm::backend::cpu::Cpu;
//! use pagelm::engine::{GenerateParams, Generation, Model, Options};
//! use pagelm::gguf::Gguf;
//! use pagelm::text::Tokenizer;
//! use pollster::block_on;
//!
//! let file = std::fs::read("tests/golden/llama.gguf")?;
//! let gguf = Gguf::parse(&file)?;
//! let tokenizer = Tokenizer::from_gguf(&gguf.meta)?;
//! let backend = Cpu::new(1);
//! let model = Model::new(&gguf, &|dtype| backend.supports(dtype), &Options::default())?;
//! let mut session = model.load(&gguf, &file, Box::new(backend))?;
//!
//! let prompt = tokenizer.encode("Hello", Default::default())?;
//! let params = GenerateParams { max_tokens: Some(4), ignore_eos: true, ..Default::default() };
//! let mut generation = Generation::new(&mut session, &tokenizer, &prompt, params, 0.0)?;
//! while block_on(generation.next(&mut session, &tokenizer, &|| 0.0))?.is_some() {}
//! assert_eq!(generation.generated().len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Here and not for the workspace: nothing of a program or a test is reachable from outside.
#![warn(unreachable_pub)]

pub mod dtype;
pub mod error;

pub mod gguf;
pub mod hf;
pub mod hub;
pub mod image;
pub mod quant;

pub mod graph;

pub mod arch;
pub mod backend;
pub mod text;

pub mod grammar;

pub mod engine;

pub mod api;

pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
