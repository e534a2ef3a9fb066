//! Shared by the suite: where fixtures lie and how to read them, random cases, backends and tolerances.

pub mod backends;
pub mod cases;
pub mod fixtures;
pub mod tol;
