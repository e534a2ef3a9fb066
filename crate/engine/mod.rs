//! Where a model meets a backend: loading, sequences and their cache, sampling and generation.

mod batch;
mod cache;
pub mod check;
pub mod choose;
mod events;
mod file_sampling;
mod generate;
mod idle;
mod load;
mod lookahead;
mod model;
mod mtp;
mod profile;
mod queue;
mod queue_depth;
mod room;
pub mod sampler;
mod sequence;
mod session;
mod snapshot;
mod speculate;
mod stats;
mod steps;

pub use batch::Batch;
pub use events::{Event, StopReason, Usage};
pub use file_sampling::FileSampling;
pub use generate::{GenerateParams, Generation};
pub use load::{Loader, Piece};
pub use model::{Model, Options};
pub use profile::{KernelTime, Profile};
pub use sampler::{Sampler, SamplerParams};
pub use sequence::Sequence;
pub use session::Session;
pub use speculate::{Draft, ProposerName, SpeculateParams};
pub use stats::{Done, PoolUse, Speculated, Stats};
pub use steps::{Engine, Row};
