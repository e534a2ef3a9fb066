//! pagelm: language models from GGUF files, in a web page and natively, on one graph and cache engine.
//!
//! Modules import only downwards (a test keeps it so):
//!
//! ```text
//! hosts      web/bindings (a page)      native-metal (the command)      tests
//! engine     load . model . session . sampler . generate
//! arch | backend | text                 what a model is | how a plan runs | strings <-> ids
//! graph      ops, builder, inference, verifier, passes, slots, plan
//! hf                                    checkpoints of Hugging Face, as if they were GGUF
//! gguf  quant                           headers and metadata | packed blocks
//! error  dtype
//! ```
//!
//! # The path of a token
//!
//! A host reads a header with [`gguf::Reader`]. [`engine::Model`] asks [`arch`] for the graph, makes a
//! [`graph::Plan`] of it, and its [`engine::Loader`] says which bytes of the file go to which weight of a
//! [`backend::Backend`]. [`text::ChatTemplate`] and [`text::Tokenizer`] turn messages into ids. From then on each call of
//! [`engine::Generation::next`] is one step: [`engine::Session`] checks it and knows its position, the backend runs the
//! plan's nodes and gives logits back, [`engine::Sampler`] chooses an id, and [`text::TextStream`] lets go of the
//! characters that are whole and cannot be the start of a stop string.

pub mod dtype;
pub mod error;

pub mod gguf;
pub mod hf;
pub mod quant;

pub mod graph;

pub mod arch;
pub mod backend;
pub mod text;

pub mod engine;

pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
