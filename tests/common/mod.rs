//! Shared by the suite: where fixtures lie and how to read them, random cases, backends and tolerances.

pub mod backends;
pub mod cases;
pub mod fixtures;
pub mod tol;
//! Shared by the suite: where fixtures lie and how to read them, made-up files, a counting allocator, a generator.

pub mod alloc;
#[path = "../fuzz/bodies.rs"]
pub mod bodies;
pub mod fixtures;
pub mod gguf_writer;
pub mod rng;
