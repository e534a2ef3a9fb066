//! Where a model meets a backend: loading, the cache, sessions, sampling and the generation loop.

pub mod check;
pub mod choose;
mod file_sampling;
mod generate;
mod load;
mod model;
pub mod sampler;
mod session;

pub use file_sampling::FileSampling;
pub use generate::{Event, GenerateParams, Generation, StopReason, Usage};
pub use load::{Loader, Piece};
pub use model::{Model, Options};
pub use sampler::{Sampler, SamplerParams};
pub use session::Session;
pub use session::profile::{KernelTime, Profile};
