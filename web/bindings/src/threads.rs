//! Threads that JavaScript starts and lends to the CPU backend. Each is a worker with an instance of this module of its
//! own, on the one memory: what is static here belongs to all of them.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use pagelm::backend::cpu::{Cpu, Worker};
use wasm_bindgen::prelude::*;

/// Workers that wait for a thread.
static WAITING: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

/// Threads that run one.
static LENT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// What this thread runs.
    static MINE: OnceCell<Worker> = const { OnceCell::new() };
}

/// The CPU backend on as many threads. Builds without shared memory have one.
pub fn cpu(threads: usize) -> Cpu {
    let threads = if cfg!(target_feature = "atomics") { threads } else { 1 };
    Cpu::with_lent(threads, |worker| {
        WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        true
    })
}

/// How many threads the engine could use beside those that it has.
#[wasm_bindgen]
pub fn threads_wanted() -> usize {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// Lends the calling thread to the engine; returns once that is gone.
#[wasm_bindgen]
pub fn lend_thread() {
    let worker = WAITING.lock().unwrap_or_else(PoisonError::into_inner).pop();
    if let Some(worker) = worker {
        LENT.fetch_add(1, Ordering::Relaxed);
        MINE.with(|mine| mine.get_or_init(|| worker).run());
        LENT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Must be called where `lend_thread` ended by a trap: else the engine waits for this thread for ever.
#[wasm_bindgen]
pub fn thread_failed() {
    MINE.with(|mine| mine.get().map(Worker::leave));
    LENT.fetch_sub(1, Ordering::Relaxed);
}

/// Threads that compute, the engine's own among them.
pub fn running() -> usize {
    1 + LENT.load(Ordering::Relaxed)
}
