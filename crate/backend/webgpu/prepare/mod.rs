//! Everything that is created before the first step: buffers, pipelines and dispatches of a plan.

pub mod buffers;
pub mod lower;
pub mod program;
pub mod repack;
pub mod sampler;
pub mod states;
pub mod tables;
pub mod weights;
