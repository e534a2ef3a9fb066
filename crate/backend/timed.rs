//! How long the kernels of a step take.

use std::pin::Pin;

use crate::error::Result;

/// One dispatch of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    /// The name of its shader, such as `gemv`.
    pub kernel: &'static str,
    /// Nanoseconds from its begin to its end, which on most devices includes the wait for the one before.
    pub ns: f64,
    /// Bytes of packed weights that it reads; with experts those of the experts used.
    pub weight_bytes: u64,
}

/// The dispatches of a step, and what they are measured against.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedStep {
    /// In the order in which they ran.
    pub kernels: Vec<Timed>,
    /// Of a kernel that does nothing but read a large buffer, vector by vector.
    pub read_bytes_per_s: f64,
}

/// What a backend that times a step gives back.
pub type Timing<'a> = Pin<Box<dyn Future<Output = Result<TimedStep>> + 'a>>;
