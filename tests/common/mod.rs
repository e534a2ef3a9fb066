//! Shared by the suite.

pub mod alloc;
pub mod backends;
#[path = "../fuzz/bodies.rs"]
pub mod bodies;
pub mod byte_vocabulary;
pub mod cases;
pub mod checkpoint;
pub mod conversation;
pub mod counting;
pub mod drawn;
pub mod faulty;
pub mod fixtures;
pub mod gguf_writer;
pub mod golden;
pub mod rng;
pub mod skipped;
pub mod tol;
pub mod unread;
