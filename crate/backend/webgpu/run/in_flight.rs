//! Steps in flight, and parts of the cache that are being read: submitted and not read yet. Each has a readback buffer that
//! the host maps.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::backend::webgpu::device::Gpu;
use crate::bail;
use crate::error::{Error, ErrorKind, Result};

#[derive(Default)]
struct State {
    /// Set when the GPU is done: whether mapping succeeded.
    done: Option<bool>,
    waker: Option<Waker>,
}

#[derive(Clone, Default)]
struct Flag(Arc<Mutex<State>>);

impl Flag {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, ok: bool) {
        let mut state = self.lock();
        state.done = Some(ok);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if let Some(ok) = state.done {
            return Poll::Ready(ok);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Waits until a buffer is mapped.
pub(crate) async fn mapped(gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<()> {
    let flag = Flag::default();
    let set = flag.clone();
    buffer.map_async(wgpu::MapMode::Read, .., move |r| set.set(r.is_ok()));
    if cfg!(not(target_arch = "wasm32")) {
        gpu.wait()?;
    }
    if poll_fn(|cx| flag.poll(cx)).await {
        return Ok(());
    }
    Err(unmapped(gpu))
}

/// What the host reads back from a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A row of logits per output of the step; maybe none.
    Logits,
    Token,
    /// A token of each row of logits.
    Rows,
    /// A part of the cache.
    Part,
}

/// The readback of one step.
struct Slot {
    answer: Answer,
    buffer: wgpu::Buffer,
    flag: Flag,
    /// Bytes that the step in this slot reads back.
    bytes: u64,
    /// The submission after which the step is complete.
    submission: Option<wgpu::SubmissionIndex>,
}

/// At once: a browser would wait for its garbage collector.
impl Drop for Slot {
    fn drop(&mut self) {
        self.buffer.destroy();
    }
}

/// Steps in flight, oldest first, and free slots for more of them.
#[derive(Default)]
pub(crate) struct InFlight {
    steps: VecDeque<Slot>,
    free: Vec<Slot>,
}

impl InFlight {
    /// Creates slots for `n` more steps whose answer of this kind has up to `bytes` bytes.
    pub(crate) fn add(&mut self, gpu: &Gpu, answer: Answer, n: usize, bytes: u64) -> Result<()> {
        use wgpu::BufferUsages as U;
        let usage = U::MAP_READ | U::COPY_DST;
        let desc =
            wgpu::BufferDescriptor { label: Some("readback"), size: bytes.max(4), usage, mapped_at_creation: false };
        for _ in 0..n {
            let buffer = gpu.device.create_buffer(&desc);
            self.free.push(Slot { answer, buffer, flag: Flag::default(), bytes: 0, submission: None });
        }
        gpu.fault.check()
    }

    /// Steps in flight.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Bytes of all slots.
    pub(crate) fn bytes(&self) -> u64 {
        self.steps.iter().chain(&self.free).map(|s| s.buffer.size()).sum()
    }

    /// Fails where no slot is free.
    pub(crate) fn ensure_free(&self, answer: Answer) -> Result<()> {
        if !self.free.iter().any(|s| s.answer == answer) {
            bail!(InvalidState, "{} steps are in flight; read the oldest first", self.len());
        }
        Ok(())
    }

    /// Makes a slot with room for so many bytes unless one is free, in the place of a free one that is too small. Returns how
    /// many were made.
    pub(crate) fn ensure(&mut self, gpu: &Gpu, answer: Answer, bytes: u64) -> Result<u64> {
        if self.free.iter().any(|s| s.answer == answer && s.buffer.size() >= bytes) {
            self.free.retain(|s| s.answer != answer || s.buffer.size() >= bytes);
            return Ok(0);
        }
        self.free.retain(|s| s.answer != answer);
        self.add(gpu, answer, 1, bytes).map(|()| 1)
    }

    /// Drops free slots but one.
    pub(crate) fn free_all_but_one(&mut self) {
        self.free.truncate(1);
    }

    /// Takes a free slot for a step and records the copy of its answer, one place after another.
    ///
    /// # Panics
    /// Where no slot is free.
    pub(crate) fn take<'a>(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        answer: Answer,
        places: impl IntoIterator<Item = (&'a wgpu::Buffer, u64, u64)>,
    ) {
        let free = self.free.iter().position(|s| s.answer == answer).expect("the caller ensured that one is free");
        let mut slot = self.free.swap_remove(free);
        slot.bytes = 0;
        slot.flag.lock().done = None;
        for (from, at, bytes) in places.into_iter().filter(|p| p.2 > 0) {
            encoder.copy_buffer_to_buffer(from, at, &slot.buffer, slot.bytes, bytes);
            slot.bytes += bytes;
        }
        self.steps.push_back(slot);
    }

    /// Requests a notification when the newest step is complete. Call it after the submit.
    pub(crate) fn notify(&mut self, queue: &wgpu::Queue, submission: wgpu::SubmissionIndex) {
        let slot = self.steps.back_mut().expect("a step took a slot");
        slot.submission = Some(submission);
        let flag = slot.flag.clone();
        if slot.bytes > 0 {
            slot.buffer.map_async(wgpu::MapMode::Read, ..slot.bytes, move |r| flag.set(r.is_ok()));
        } else {
            queue.on_submitted_work_done(move || flag.set(true));
        }
    }

    /// Bytes of the oldest answer of this kind; 0 where there is none.
    pub(crate) fn oldest(&self, answer: Answer) -> u64 {
        self.steps.iter().find(|s| s.answer == answer).map_or(0, |s| s.bytes)
    }

    /// Copies the answer of the oldest step with an answer of this kind. Blocks until it is complete natively; never in a
    /// browser.
    pub(crate) fn poll(&mut self, gpu: &Gpu, cx: &Context<'_>, answer: Answer, out: &mut [u8]) -> Poll<Result<()>> {
        let Some(oldest) = self.steps.iter().position(|s| s.answer == answer) else {
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidState, "nothing of this kind is in flight")));
        };
        let slot = &mut self.steps[oldest];
        if slot.flag.lock().done.is_none() && cfg!(not(target_arch = "wasm32")) {
            gpu.wait_for(slot.submission.take())?;
        }
        let Poll::Ready(ok) = slot.flag.poll(cx) else { return Poll::Pending };
        let slot = self.steps.remove(oldest).expect("it was just found");
        let result = read(&slot, ok, gpu, out);
        self.free.push(slot);
        Poll::Ready(result)
    }
}

/// Why a result is not there: browsers tell of a lost device later than of what it did not do.
fn unmapped(gpu: &Gpu) -> Error {
    let lost = Error::new(ErrorKind::DeviceLost, "the GPU device was lost: a result could not be mapped");
    gpu.fault.check().err().unwrap_or_else(|| {
        gpu.fault.set(lost.clone());
        lost
    })
}

fn read(slot: &Slot, ok: bool, gpu: &Gpu, out: &mut [u8]) -> Result<()> {
    gpu.fault.check()?;
    if !ok {
        gpu.wait()?; // Reports a lost device.
        return Err(unmapped(gpu));
    }
    if slot.bytes == 0 {
        return Ok(());
    }
    let Ok(view) = slot.buffer.get_mapped_range(..slot.bytes) else {
        bail!(GpuError, "a result could not be read");
    };
    let fits = out.len() == view.len();
    if fits {
        out.copy_from_slice(&view);
    }
    drop(view);
    slot.buffer.unmap();
    if !fits {
        bail!(InvalidArgument, "the result has {} bytes, the output has room for {}", slot.bytes, out.len());
    }
    Ok(())
}
