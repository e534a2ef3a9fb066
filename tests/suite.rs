//! The one test binary. `suite/` mirrors `crate/`; `common/` is what several of them share.

mod common;
mod suite;
