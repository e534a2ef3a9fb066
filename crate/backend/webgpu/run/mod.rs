//! Running steps: one step, its words, its division into submits, steps in flight, and timing; and parts of the cache.

pub(super) mod autotune;
mod cut;
mod fits;
pub(super) mod in_flight;
mod parts;
pub(super) mod profile;
mod slices;
pub(super) mod step;
pub(super) mod submit_budget;
mod words;
