//! Everything that is created before the first step: buffers, pipelines and dispatches of a plan.

pub(super) mod buffers;
pub(super) mod lower;
pub(super) mod program;
pub(super) mod repack;
pub(super) mod sampler;
pub(super) mod states;
pub(super) mod tables;
pub(super) mod weights;
