//! The text of shaders: see `shaders/README.md` for what the files agree on.

pub(super) mod bindings;
pub(super) mod files;
pub(super) mod interfaces;
pub(super) mod text;
