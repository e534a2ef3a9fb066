//! Logits or tokens on their way back: a ring of buffers that the host can map.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::device::Gpu;
use crate::bail;
use crate::error::{Error, ErrorKind, Result};

#[derive(Default)]
struct State {
    /// Whether the GPU is done, and whether it succeeded.
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

/// Waits until the host can read a buffer.
pub async fn mapped(gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<()> {
    let flag = Flag::default();
    let set = flag.clone();
    buffer.map_async(wgpu::MapMode::Read, .., move |r| set.set(r.is_ok()));
    if cfg!(not(target_arch = "wasm32")) {
        gpu.wait()?;
    }
    if poll_fn(|cx| flag.poll(cx)).await {
        return Ok(());
    }
    gpu.fault.check()?;
    bail!(GpuError, "what the GPU gives back could not be mapped");
}

struct Seat {
    buffer: wgpu::Buffer,
    flag: Flag,
    /// Bytes that the step that uses this seat gives back.
    bytes: u64,
    /// After which the step is over.
    submission: Option<wgpu::SubmissionIndex>,
}

/// First in, first out.
pub struct Ring {
    seats: Vec<Seat>,
    oldest: usize,
    waiting: usize,
}

impl Ring {
    /// As many seats as steps may be on their way at once, for up to `bytes` bytes each.
    pub fn new(gpu: &Gpu, bytes: u64, seats: usize) -> Result<Self> {
        use wgpu::BufferUsages as U;
        let usage = U::MAP_READ | U::COPY_DST;
        let desc =
            wgpu::BufferDescriptor { label: Some("readback"), size: bytes.max(4), usage, mapped_at_creation: false };
        let seat =
            || Seat { buffer: gpu.device.create_buffer(&desc), flag: Flag::default(), bytes: 0, submission: None };
        let seats = (0..seats).map(|_| seat()).collect();
        gpu.fault.check()?;
        Ok(Self { seats, oldest: 0, waiting: 0 })
    }

    pub fn buffers(&self) -> u64 {
        self.seats.len() as u64
    }

    /// Fails where no seat is free.
    pub fn vacant(&self) -> Result<()> {
        let n = self.seats.len();
        if self.waiting == n {
            bail!(InvalidState, "{n} steps wait to be read; read the oldest first");
        }
        Ok(())
    }

    /// Takes a vacant seat for a step and records the copy of what it gives back.
    pub fn take(&mut self, encoder: &mut wgpu::CommandEncoder, from: &wgpu::Buffer, bytes: u64) {
        let n = self.seats.len();
        let seat = &mut self.seats[(self.oldest + self.waiting) % n];
        seat.bytes = bytes;
        seat.flag.lock().done = None;
        if bytes > 0 {
            encoder.copy_buffer_to_buffer(from, 0, &seat.buffer, 0, bytes);
        }
        self.waiting += 1;
    }

    /// Asks to be told when the newest step is over. Call it after the submit.
    pub fn listen(&mut self, queue: &wgpu::Queue, submission: wgpu::SubmissionIndex) {
        let newest = (self.oldest + self.waiting - 1) % self.seats.len();
        let seat = &mut self.seats[newest];
        seat.submission = Some(submission);
        let flag = seat.flag.clone();
        if seat.bytes > 0 {
            seat.buffer.map_async(wgpu::MapMode::Read, ..seat.bytes, move |r| flag.set(r.is_ok()));
        } else {
            queue.on_submitted_work_done(move || flag.set(true));
        }
    }

    /// Steps that wait to be read.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Copies what the oldest step gives back. Natively it blocks until they are there; in a browser it never does.
    pub fn poll(&mut self, gpu: &Gpu, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<()>> {
        if self.waiting == 0 {
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidState, "no step waits to be read")));
        }
        let n = self.seats.len();
        let seat = &mut self.seats[self.oldest];
        if seat.flag.lock().done.is_none() && cfg!(not(target_arch = "wasm32")) {
            gpu.wait_for(seat.submission.take())?;
        }
        let Poll::Ready(ok) = seat.flag.poll(cx) else { return Poll::Pending };
        self.oldest = (self.oldest + 1) % n;
        self.waiting -= 1;
        Poll::Ready(read(seat, ok, gpu, out))
    }
}

fn read(seat: &Seat, ok: bool, gpu: &Gpu, out: &mut [u8]) -> Result<()> {
    gpu.fault.check()?;
    if !ok {
        gpu.wait()?; // A lost device tells so while one waits.
        bail!(GpuError, "what a step gave back could not be mapped");
    }
    if seat.bytes == 0 {
        return Ok(());
    }
    let Ok(view) = seat.buffer.get_mapped_range(..seat.bytes) else {
        bail!(GpuError, "what a step gave back could not be read");
    };
    let fits = out.len() == view.len();
    if fits {
        out.copy_from_slice(&view);
    }
    drop(view);
    seat.buffer.unmap();
    if !fits {
        bail!(InvalidArgument, "the step gives back {} bytes, there is room for {}", seat.bytes, out.len());
    }
    Ok(())
}
