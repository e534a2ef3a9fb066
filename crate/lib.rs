//! pagelm: language models from GGUF files, in a web page and natively, on one graph and cache engine.

pub mod dtype;
pub mod error;

pub mod gguf;
pub mod quant;

pub mod graph;

pub mod arch;
pub mod backend;
pub mod text;

pub mod engine;

pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
