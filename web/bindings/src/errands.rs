//! Work that goes on beside a load, in a thread that is there before it computes: the tokenizer's tables, and the sum of the
//! file. Where no thread comes, or comes late, who needs a result makes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What waits for a thread; the last one is done first.
static ERRANDS: Mutex<Vec<Box<dyn FnOnce() + Send>>> = Mutex::new(Vec::new());

/// Whether a thread trapped, so that what it began does not end.
static FAILED: AtomicBool = AtomicBool::new(false);

pub fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives this to a thread, where there may be some.
pub fn offer(errand: impl FnOnce() + Send + 'static) {
    if cfg!(target_feature = "atomics") {
        locked(&ERRANDS).push(Box::new(errand));
    }
}

/// Whether a thread has something to do before it computes.
pub fn waiting() -> bool {
    !locked(&ERRANDS).is_empty()
}

/// Does what waits.
pub fn run() {
    loop {
        // The lock is not kept while it is done.
        let Some(errand) = locked(&ERRANDS).pop() else { return };
        errand();
    }
}

/// Notes that a thread trapped.
pub fn fail() {
    FAILED.store(true, Ordering::Relaxed);
}

/// Waits for other threads as long as this holds.
///
/// # Panics
/// If one of them trapped: nobody knows what it left.
pub fn wait_while<'a, T>(
    changed: &Condvar,
    mut guard: MutexGuard<'a, T>,
    holds: impl Fn(&T) -> bool,
) -> MutexGuard<'a, T> {
    const SOON: Duration = Duration::from_millis(50);
    while holds(&guard) {
        assert!(!FAILED.load(Ordering::Relaxed), "a thread failed while the model was loaded");
        guard = changed.wait_timeout(guard, SOON).unwrap_or_else(PoisonError::into_inner).0;
    }
    guard
}

/// A value that a thread makes, or who takes it.
pub struct Later<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Waits(Box<dyn FnOnce() -> T + Send>),
    Runs,
    Done(T),
    Taken,
}

impl<T: Send + 'static> Later<T> {
    pub fn new(make: impl FnOnce() -> T + Send + 'static) -> Self {
        let shared = Arc::new(Shared { state: Mutex::new(State::Waits(Box::new(make))), changed: Condvar::new() });
        let weak = Arc::downgrade(&shared);
        offer(move || {
            if let Some(shared) = weak.upgrade() {
                shared.make();
            }
        });
        Self(shared)
    }

    /// The value, which is made now unless a thread makes it.
    pub fn take(self) -> T {
        self.0.make();
        let mut state = wait_while(&self.0.changed, locked(&self.0.state), |state| matches!(state, State::Runs));
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(value) => value,
            _ => unreachable!("it was made, and is taken once"),
        }
    }
}

impl<T> Shared<T> {
    fn make(&self) {
        let mut state = locked(&self.state);
        let make = match std::mem::replace(&mut *state, State::Runs) {
            State::Waits(make) => make,
            other => {
                *state = other;
                return;
            }
        };
        drop(state);
        let value = make();
        *locked(&self.state) = State::Done(value);
        self.changed.notify_all();
    }
}
