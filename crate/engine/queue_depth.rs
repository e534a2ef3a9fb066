//! Chooses how many steps to keep in flight: enough to hide the readback latency.
//!
//! With n steps in flight a token arrives every t milliseconds, and each step is in flight for n t. If latency
//! dominates that time, twice as many steps return twice as many tokens in it; if work dominates it, they return no
//! more. So the depth doubles for as long as tokens arrive faster.

/// The initial number of steps.
const MIN: usize = 3;

/// Tokens per measurement: whole bursts at every depth, if tokens arrive in bursts.
const WINDOW: usize = 12;

/// A deeper queue is kept if a token takes less than this fraction of the time before.
const GAIN: f64 = 0.85;

/// The most milliseconds of work that may be wasted when a generation is stopped.
const MAX_SURPLUS: f64 = 250.0;

pub(super) struct QueueDepth {
    steps: usize,
    /// The most steps that the backend can have in flight.
    max: usize,
    /// Tokens that arrived at this depth.
    arrived: usize,
    since_ms: f64,
    /// Milliseconds per token at half this depth.
    half_ms: f64,
    settled: bool,
}

impl QueueDepth {
    pub(super) const fn new() -> Self {
        Self { steps: MIN, max: MIN, arrived: 0, since_ms: 0.0, half_ms: f64::INFINITY, settled: false }
    }

    pub(super) fn steps(&self) -> usize {
        self.steps.min(self.max)
    }

    pub(super) fn limit(&mut self, max: usize) {
        self.max = max;
    }

    /// Another prompt: the time since the last token is meaningless.
    pub(super) fn restart(&mut self) {
        self.arrived = 0;
    }

    pub(super) fn token_arrived(&mut self, now_ms: f64) {
        self.arrived += 1;
        // Those that were in flight when the depth changed do not count.
        if self.arrived == self.steps() {
            self.since_ms = now_ms;
        }
        if self.settled || self.arrived < self.steps() + WINDOW {
            return;
        }
        let ms = (now_ms - self.since_ms) / WINDOW as f64;
        self.arrived = 0;
        if ms >= GAIN * self.half_ms {
            self.steps /= 2;
            self.settled = true;
        } else if 2 * self.steps > self.max || 2.0 * ms * self.steps as f64 > MAX_SURPLUS {
            self.settled = true;
        } else {
            self.half_ms = ms;
            self.steps *= 2;
        }
    }
}
