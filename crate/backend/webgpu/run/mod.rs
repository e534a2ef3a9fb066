//! Running steps: one step, its division into submits, steps in flight, and timing.

pub mod autotune;
pub mod in_flight;
pub mod profile;
pub mod step;
pub mod submit_budget;
