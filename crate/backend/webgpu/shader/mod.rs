//! The text of shaders: see `shaders/README.md` for what the files agree on.

pub mod bindings;
pub mod files;
pub mod interfaces;
pub mod text;
