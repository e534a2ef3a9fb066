//! Chooses how many steps to keep in flight: enough to hide the time that a token takes to come back.
//!
//! While n steps are in flight a token arrives every t milliseconds, and each of them has been in flight for n t. Where that
//! is the time of the way back and not of the work, twice as many steps bring twice as many tokens in it; where it is the
//! work, they bring no more. So the depth doubles for as long as that brings tokens sooner.

/// Steps at first.
const MIN: usize = 3;

/// Tokens over which their time is measured: whole bursts at every depth, where they arrive in bursts.
const WINDOW: usize = 12;

/// What a deeper queue must bring: tokens in less than this part of their time.
const GAIN: f64 = 0.85;

/// Milliseconds of work that nobody may want any more when a generation is stopped, at most.
const MAX_SURPLUS: f64 = 250.0;

pub(super) struct QueueDepth {
    steps: usize,
    /// As many as the backend can have in flight.
    max: usize,
    /// Tokens that arrived at this depth.
    arrived: usize,
    since_ms: f64,
    /// Milliseconds a token took at half this depth.
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

    /// Another prompt: the time since the last token says nothing.
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
