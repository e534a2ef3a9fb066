//! The one test binary. `suite/` mirrors `crate/`; `common/` is what several of them share.

#[path = "suite/mod.rs"]
mod cases;
mod common;
