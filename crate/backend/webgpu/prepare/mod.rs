//! What is made before the first step: the buffers of a plan, and its dispatches.

pub mod buffers;
pub mod lower;
pub mod program;
pub mod repack;
pub mod sampler;
pub mod states;
pub mod tables;
pub mod weights;
