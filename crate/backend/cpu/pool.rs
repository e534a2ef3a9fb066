//! A small pool of threads that lives as long as the backend, and tiles: disjoint parts of a matrix for concurrent
//! writes.
//!
//! A job is a function of a chunk number. Threads take chunks from one counter, so a slow one takes fewer; the caller
//! works too. A worker that wakes up after the last chunk is taken does not join, and nothing waits for it: on a busy
//! machine a step never waits for a thread that has no core.
//!
//! The pool starts its threads itself, or a host lends them: in a web page only JavaScript can start one, and it may
//! start late or never. A thread that has not started simply does not join.

mod silence;
mod tile;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use silence::Silence;
use tile::Base;
pub(super) use tile::{Groups, Tile};

/// How often a worker polls for the next job before it sleeps: about 30 µs. wasm has no pause instruction.
const SPINS: u32 = if cfg!(target_arch = "wasm32") { 30_000 } else { 4000 };
/// The lowest bit of `Shared::state`: chunks may be taken.
const OPEN: u64 = 1 << 16;
/// The bits above it are the number of the job, those below it count the workers in it.
const JOB: u64 = OPEN << 1;

/// `(chunk, worker)`.
type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Shared {
    state: AtomicU64,
    next: AtomicUsize,
    chunks: AtomicUsize,
    /// Written only while no job is open and no worker is in one.
    job: std::cell::UnsafeCell<Option<*const Job<'static>>>,
    /// Workers that a thread runs now.
    running: AtomicUsize,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panicked: AtomicBool,
}

// SAFETY: `job` is written by the one caller (`Pool::run` holds `caller`) while the state is closed and no worker is
// in, and read by workers only between joining an open state and leaving it. The pointee is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is only followed while the caller waits for the job to end.
unsafe impl Send for Shared {}

pub(super) struct Pool {
    shared: Arc<Shared>,
    /// Only one job at a time.
    caller: Mutex<()>,
    /// Threads that the pool started itself.
    own: Vec<JoinHandle<()>>,
    /// One per worker and one for the caller.
    scratch: Vec<Mutex<Vec<f32>>>,
    /// Whether the host abandoned the engine: then no more jobs run.
    pub stopped: fn() -> bool,
    /// The host's clock in milliseconds, where its threads may end without a word.
    pub clock: Option<fn() -> f64>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's among them; fewer if the system cannot start more.
    pub(super) fn new(threads: usize) -> Self {
        let mut own = Vec::new();
        let mut pool = Self::lent(threads, |worker| {
            let name = format!("pagelm-{}", worker.number);
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run());
            thread.map(|t| own.push(t)).is_ok()
        });
        pool.own = own;
        pool
    }

    /// A pool on threads of the host: `lend` gets the workers, for threads that run them at some time, and returns
    /// whether there is such a thread.
    pub(super) fn lent(threads: usize, mut lend: impl FnMut(Worker) -> bool) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            chunks: AtomicUsize::new(0),
            job: std::cell::UnsafeCell::new(None),
            running: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let worker = |number| Worker { shared: Arc::clone(&shared), number, state: AtomicU8::new(Worker::OUT) };
        let workers = (1..threads.clamp(1, 256)).take_while(|&number| lend(worker(number))).count();
        let scratch = (0..=workers).map(|_| Mutex::default()).collect();
        Self { shared, caller: Mutex::new(()), own: Vec::new(), scratch, stopped: || false, clock: None }
    }

    /// The most threads that a job can have.
    pub(super) fn threads(&self) -> usize {
        self.scratch.len()
    }

    /// Threads that run now, the caller's among them.
    pub(super) fn running(&self) -> usize {
        self.shared.running.load(Ordering::Relaxed) + 1
    }

    /// The scratch of a worker, of the reserved length.
    pub(super) fn scratch(&self, worker: usize) -> MutexGuard<'_, Vec<f32>> {
        self.scratch[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows each worker's scratch to this length: a job must not allocate.
    pub(super) fn reserve(&self, len: usize) {
        for worker in 0..self.scratch.len() {
            let mut scratch = self.scratch(worker);
            let len = len.max(scratch.len());
            scratch.resize(len, 0.0);
        }
    }

    /// Bytes of all threads' scratch.
    pub(super) fn scratch_bytes(&self) -> usize {
        (0..self.threads()).map(|w| self.scratch(w).capacity() * size_of::<f32>()).sum()
    }

    /// Calls `f(chunk, worker)` once for each chunk below `chunks`; `worker` is below `threads()` and no two concurrent
    /// calls have the same one. Calls nothing once the host stopped the pool: nothing reads the results then.
    ///
    /// # Panics
    /// If a call of `f` panicked, or, where the host has a clock, if a thread does not come back from one.
    pub(super) fn run(&self, chunks: usize, f: &Job<'_>) {
        if (self.stopped)() {
            return;
        }
        if chunks <= 1 || self.running() == 1 {
            (0..chunks).for_each(|c| f(c, 0));
            return;
        }
        let _one = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        let s = &*self.shared;
        // SAFETY: only the lifetime changes. `Close` below waits, also when `f` panics, until no worker is in the job
        // and none can join, so no worker follows the pointer after `f` is gone.
        let job = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(f) };
        // SAFETY: the last job was closed and left by all, and `caller` keeps other callers out.
        unsafe { *s.job.get() = Some(job) };
        s.next.store(0, Ordering::Relaxed);
        s.chunks.store(chunks, Ordering::Relaxed);
        let number = s.state.load(Ordering::Relaxed) / JOB;
        s.state.store(((number + 1) * JOB) | OPEN, Ordering::SeqCst);
        if s.sleepers.load(Ordering::SeqCst) > 0 {
            drop(s.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            s.wake.notify_all();
        }
        let close = Close(s, self.clock);
        s.take_chunks(f, 0);
        drop(close);
        assert!(!s.panicked.load(Ordering::Relaxed), "a worker thread panicked");
    }

    /// Cuts `y` [rows, cols] into tiles of at most `grain` and calls `f(tile, worker)` for each.
    pub(super) fn tiles<T: Send>(
        &self,
        y: &mut [T],
        cols: usize,
        grain: (usize, usize),
        f: impl Fn(Tile<'_, T>, usize) + Sync,
    ) {
        if y.is_empty() {
            return;
        }
        let y = Base::new(y, cols);
        let (down, across) = (y.rows().div_ceil(grain.0), cols.div_ceil(grain.1));
        self.run(down * across, &|chunk, worker| {
            let (r, c) = (chunk / across * grain.0, chunk % across * grain.1);
            f(y.tile(r..y.rows().min(r + grain.0), c..cols.min(c + grain.1), None), worker);
        });
    }

    /// Cuts the rows of each group of `y` [rows, cols] into tiles of at most `grain` columns, and calls
    /// `f(tile, group, worker)` for each.
    pub(super) fn groups(
        &self,
        y: &mut [f32],
        cols: usize,
        groups: &Groups,
        grain: usize,
        f: impl Fn(Tile<'_>, usize, usize) + Sync,
    ) {
        let y = Base::new(y, cols);
        assert_eq!(groups.order.len(), y.rows(), "each row is in a group");
        let across = cols.div_ceil(grain);
        self.run(groups.runs.len() * across, &|chunk, worker| {
            let ((group, rows), c) = (&groups.runs[chunk / across], chunk % across * grain);
            f(y.tile(rows.clone(), c..cols.min(c + grain), Some(&groups.order)), *group, worker);
        });
    }

    /// Cuts `y` [rows, n * cols] into `n` tiles of all rows, and calls `f(tile, part, worker)` for each, with its row of `z`
    /// [n, len] as the part.
    pub(super) fn heads(
        &self,
        n: usize,
        y: &mut [f32],
        z: &mut [f32],
        cols: usize,
        f: impl Fn(Tile<'_>, &mut [f32], usize) + Sync,
    ) {
        let len = z.len() / n;
        let (y, z) = (Base::new(y, n * cols), Base::new(z, len));
        self.run(n, &|i, worker| {
            let mut part = z.tile(i..i + 1, 0..len, None);
            f(y.tile(0..y.rows(), i * cols..(i + 1) * cols, None), part.row(i), worker);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(self.shared.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.wake.notify_all();
        for thread in self.own.drain(..) {
            let _ = thread.join(); // its panic was reported by `run`
        }
    }
}

/// Closes a job and waits for its workers, also when the caller's own chunk panics.
struct Close<'a>(&'a Shared, Option<fn() -> f64>);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut silence = self.1.map(Silence::new);
        let mut spins = 0u32;
        while !self.0.state.load(Ordering::Acquire).is_multiple_of(OPEN) {
            spins = spins.saturating_add(1);
            if spins < SPINS {
                std::hint::spin_loop();
                continue;
            }
            std::thread::yield_now();
            if let Some(silence) = &mut silence {
                silence.look();
            }
        }
    }
}

impl Shared {
    fn take_chunks(&self, f: &Job<'_>, worker: usize) {
        let chunks = self.chunks.load(Ordering::Relaxed);
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                return;
            }
            f(chunk, worker);
        }
    }

    /// Waits for a job with another number than `seen` and joins it. `None` once the pool ends.
    fn join(&self, seen: u64) -> Option<u64> {
        let fresh = |s: u64| s & OPEN != 0 && s / JOB != seen;
        let mut spins = 0;
        loop {
            let s = self.state.load(Ordering::Acquire);
            if fresh(s) {
                if self.state.compare_exchange(s, s + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    return Some(s / JOB);
                }
            } else if self.stop.load(Ordering::Relaxed) {
                return None;
            } else if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                self.nap(fresh);
                spins = 0;
            }
        }
    }

    fn nap(&self, fresh: impl Fn(u64) -> bool) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        while !fresh(self.state.load(Ordering::SeqCst)) && !self.stop.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One thread's part in the pool.
pub struct Worker {
    shared: Arc<Shared>,
    number: usize,
    state: AtomicU8,
}

impl Worker {
    /// Not running, waiting for a job, or in a job.
    const OUT: u8 = 0;
    const IDLE: u8 = 1;
    const BUSY: u8 = 2;

    /// Works until the pool is gone. Must be called only once.
    pub fn run(&self) {
        let shared = &*self.shared;
        self.state.store(Self::IDLE, Ordering::Relaxed);
        shared.running.fetch_add(1, Ordering::Relaxed);
        let end = End(self);
        let mut seen = u64::MAX;
        while let Some(number) = shared.join(seen) {
            seen = number;
            self.state.store(Self::BUSY, Ordering::Relaxed);
            // SAFETY: joined, so the pointer is set and the caller waits until this worker leaves.
            let job = unsafe { &*(*shared.job.get()).expect("an open job") };
            shared.take_chunks(job, self.number);
            self.state.store(Self::IDLE, Ordering::Relaxed);
            shared.state.fetch_sub(1, Ordering::Release);
        }
        drop(end);
    }

    /// Takes the worker out of the pool, and out of a job in which it failed, which the pool then reports. If panics do
    /// not unwind, the one who started the thread must call this after `run` ended by a panic: otherwise the pool waits
    /// for that job forever.
    pub fn leave(&self) {
        let state = self.state.swap(Self::OUT, Ordering::Relaxed);
        if state != Self::OUT {
            self.shared.running.fetch_sub(1, Ordering::Relaxed);
        }
        if state == Self::BUSY {
            self.shared.panicked.store(true, Ordering::Relaxed);
            self.shared.state.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Leaves at the end, also on a panic.
struct End<'a>(&'a Worker);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
