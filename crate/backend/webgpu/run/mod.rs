//! Running steps: one step, its division into submits, steps in flight, and timing.

pub(super) mod autotune;
pub(super) mod in_flight;
pub(super) mod profile;
pub(super) mod step;
pub(super) mod submit_budget;
