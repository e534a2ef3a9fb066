//! Shared by the suite: where fixtures lie, and how to read them.

pub mod fixtures;
