//! The end of a wait for a thread that will not come back.
//!
//! A worker of a web page can be ended from outside, and not every browser says so. What the caller waits for is the rest of a
//! chunk, which takes milliseconds.

/// Milliseconds after which a thread is gone.
const PATIENCE: f64 = 20_000.0;

/// The most milliseconds that count between two looks: a page that was frozen, with all its threads, goes on.
const LONGEST: f64 = 100.0;

/// Turns of a loop for each look at the clock, which takes longer than a turn.
const TURNS: u32 = 1 << 12;

/// How long a caller has waited.
pub(super) struct Silence {
    clock: fn() -> f64,
    turns: u32,
    last: Option<f64>,
    waited: f64,
}

impl Silence {
    pub(super) fn new(clock: fn() -> f64) -> Self {
        Self { clock, turns: 0, last: None, waited: 0.0 }
    }

    /// Must be called on each turn of the loop that waits.
    ///
    /// # Panics
    /// Once the wait is over. Nothing can catch it: the thread could come back to a job that is gone.
    pub(super) fn look(&mut self) {
        self.turns = self.turns.wrapping_add(1);
        if self.turns.is_multiple_of(TURNS) && self.is_over((self.clock)()) {
            let _never_unwinds = Abort;
            panic!("a thread has not come back from its part of a step for 20 seconds: it was ended");
        }
    }

    fn is_over(&mut self, now: f64) -> bool {
        self.waited += self.last.map_or(0.0, |last| (now - last).clamp(0.0, LONGEST));
        self.last = Some(now);
        self.waited > PATIENCE
    }
}

struct Abort;

impl Drop for Abort {
    fn drop(&mut self) {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_but_time_in_which_all_stood_still_does_not_count() {
        let mut silence = Silence::new(|| unreachable!("this test has the time"));
        let mut now = 0.0;
        // A frozen page and a clock that was set back.
        for step in [1e9, 5e9, -7e9, 50.0] {
            now += step;
            assert!(!silence.is_over(now));
        }
        let looks = (0..).take_while(|_| {
            now += 10.0;
            !silence.is_over(now)
        });
        assert_eq!(looks.count() as f64, (PATIENCE - 150.0) / 10.0);
    }
}
