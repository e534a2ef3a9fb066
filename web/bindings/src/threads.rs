//! Threads that JavaScript starts and lends to the CPU backend; before that they run errands of a load. Each is a worker with
//! an instance of this module of its own, on the one memory: what is static here belongs to all of them.

use std::cell::OnceCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use pagelm::backend::cpu::{Cpu, Worker};
use wasm_bindgen::prelude::*;

use crate::errands::{self, locked};
use crate::{now_ms, stopped};

/// Workers that wait for a thread.
static WAITING: Mutex<Vec<Worker>> = Mutex::new(Vec::new());

/// Threads that took one.
static LENT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// What this thread computes, if anything.
    static MINE: OnceCell<Worker> = const { OnceCell::new() };
}

/// The CPU backend on as many threads. Builds without shared memory have one.
pub fn cpu(threads: usize) -> Cpu {
    let threads = if cfg!(target_feature = "atomics") { threads } else { 1 };
    let lend = |worker| {
        locked(&WAITING).push(worker);
        true
    };
    Cpu::with_lent(threads, lend).until(stopped).with_clock(now_ms)
}

/// How many threads the engine could use beside those that it has.
#[wasm_bindgen(js_name = threadsWanted)]
pub fn threads_wanted() -> usize {
    locked(&WAITING).len().max(errands::waiting().into())
}

/// Makes the calling thread one of the engine's, unless that has all it wants. It is counted from here on, if it will compute.
#[wasm_bindgen(js_name = joinEngine)]
pub fn join_engine() -> bool {
    let Some(worker) = locked(&WAITING).pop() else { return errands::waiting() };
    LENT.fetch_add(1, Ordering::Relaxed);
    MINE.with(|mine| mine.set(worker).is_ok())
}

/// Works for the engine that was joined; returns once that is gone.
#[wasm_bindgen(js_name = lendThread)]
pub fn lend_thread() {
    errands::run();
    MINE.with(|mine| {
        if let Some(worker) = mine.get() {
            worker.run();
            LENT.fetch_sub(1, Ordering::Relaxed);
        }
    });
}

/// Must be called where `lend_thread` ended by a trap: else the engine waits for this thread for ever.
#[wasm_bindgen(js_name = threadFailed)]
pub fn thread_failed() {
    errands::fail();
    MINE.with(|mine| {
        if let Some(worker) = mine.get() {
            worker.leave();
            LENT.fetch_sub(1, Ordering::Relaxed);
        }
    });
}

/// Takes no more threads, and says how many compute: those that joined and the engine's own.
#[wasm_bindgen(js_name = closeThreads)]
pub fn close_threads() -> usize {
    locked(&WAITING).clear();
    running()
}

/// Threads that compute, the engine's own among them.
pub fn running() -> usize {
    1 + LENT.load(Ordering::Relaxed)
}
