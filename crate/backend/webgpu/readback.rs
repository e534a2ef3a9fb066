//! Logits on their way back: a ring of buffers that the host can map.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::device::Gpu;
use crate::bail;
use crate::error::Result;

/// Steps that may be on their way at once.
const RING: usize = 4;

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
}

struct Seat {
    buffer: wgpu::Buffer,
    flag: Flag,
    /// Bytes of logits of the step that uses this seat.
    bytes: u64,
}

/// First in, first out.
pub struct Ring {
    seats: Vec<Seat>,
    oldest: usize,
    waiting: usize,
}

impl Ring {
    /// Seats for up to `bytes` bytes of logits each.
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        use wgpu::BufferUsages as U;
        let usage = U::MAP_READ | U::COPY_DST;
        let desc =
            wgpu::BufferDescriptor { label: Some("logits"), size: bytes.max(4), usage, mapped_at_creation: false };
        let seat = || Seat { buffer: gpu.device.create_buffer(&desc), flag: Flag::default(), bytes: 0 };
        let seats = (0..RING).map(|_| seat()).collect();
        gpu.fault.check()?;
        Ok(Self { seats, oldest: 0, waiting: 0 })
    }

    pub fn buffers(&self) -> u64 {
        RING as u64
    }

    /// Takes a seat for a step and records the copy of its logits.
    pub fn take(&mut self, encoder: &mut wgpu::CommandEncoder, logits: &wgpu::Buffer, bytes: u64) -> Result<()> {
        if self.waiting == RING {
            bail!(InvalidState, "{RING} steps wait to be read; read the oldest first");
        }
        let seat = &mut self.seats[(self.oldest + self.waiting) % RING];
        seat.bytes = bytes;
        seat.flag.lock().done = None;
        if bytes > 0 {
            encoder.copy_buffer_to_buffer(logits, 0, &seat.buffer, 0, bytes);
        }
        self.waiting += 1;
        Ok(())
    }

    /// Asks to be told when the newest step is over. Call it after the submit.
    pub fn listen(&self, queue: &wgpu::Queue) {
        let seat = &self.seats[(self.oldest + self.waiting - 1) % RING];
        let flag = seat.flag.clone();
        if seat.bytes > 0 {
            seat.buffer.map_async(wgpu::MapMode::Read, ..seat.bytes, move |r| flag.set(r.is_ok()));
        } else {
            queue.on_submitted_work_done(move || flag.set(true));
        }
    }

    /// Whether a step waits to be read.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Copies the logits of the oldest step. Natively it blocks until they are there; in a browser it never does.
    pub fn poll(&mut self, gpu: &Gpu, cx: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        let seat = &self.seats[self.oldest];
        if seat.flag.lock().done.is_none() && cfg!(not(target_arch = "wasm32")) {
            gpu.wait()?;
        }
        let ok = {
            let mut state = seat.flag.lock();
            match state.done {
                Some(ok) => ok,
                None => {
                    state.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        self.oldest = (self.oldest + 1) % RING;
        self.waiting -= 1;
        Poll::Ready(read(seat, ok, gpu, logits))
    }
}

fn read(seat: &Seat, ok: bool, gpu: &Gpu, logits: &mut [f32]) -> Result<()> {
    gpu.fault.check()?;
    if !ok {
        gpu.wait()?; // A lost device tells so while one waits.
        bail!(GpuError, "the logits could not be mapped");
    }
    if seat.bytes == 0 {
        return Ok(());
    }
    let Ok(view) = seat.buffer.get_mapped_range(..seat.bytes) else {
        bail!(GpuError, "the mapped logits could not be read");
    };
    let fits = logits.len() * 4 == view.len();
    if fits {
        bytemuck::cast_slice_mut(logits).copy_from_slice(&view);
    }
    drop(view);
    seat.buffer.unmap();
    if !fits {
        bail!(InvalidArgument, "the step has {} logits, there is room for {}", seat.bytes / 4, logits.len());
    }
    Ok(())
}
