//! Where a model meets a backend: loading, the cache, sessions, sampling and the generation loop.

mod load;
mod model;
mod session;

pub use load::{Loader, Piece};
pub use model::{Model, Options};
pub use session::Session;
