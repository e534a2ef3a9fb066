//! What happens when steps run: one step, how much of it a submit gets, what is in flight, and how long kernels take.

pub mod autotune;
pub mod in_flight;
pub mod profile;
pub mod step;
pub mod submit_budget;
