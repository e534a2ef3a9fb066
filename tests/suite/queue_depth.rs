//! How many steps are kept in flight, on a device whose clock the test turns.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use pagelm::backend::{Backend, CachePart, Counters, Limits, Memory, SampleRequest, SamplingRules, Step};
use pagelm::engine::{GenerateParams, Generation, Options, SamplerParams};
use pagelm::gguf::Gguf;
use pagelm::graph::{CacheKind, Plan, WeightId};
use pagelm::text::Tokenizer;
use pagelm::{DType, Result};
use pollster::block_on;

use crate::common::golden;

/// When the token of each started step will have come back.
type Coming = Rc<RefCell<VecDeque<f64>>>;

/// Steps that take `step_ms` one after the other, and tokens that need `way_ms` to come back, in bursts where `every_ms`
/// is not 0: only at multiples of it.
struct Device {
    now: Rc<Cell<f64>>,
    coming: Coming,
    busy_until: f64,
    step_ms: f64,
    way_ms: f64,
    every_ms: f64,
    seats: usize,
    most: Rc<Cell<usize>>,
}

impl Backend for Device {
    fn name(&self) -> &'static str {
        "reference"
    }
    fn supports(&self, _: DType) -> bool {
        true
    }
    fn prepare(&mut self, _: Plan, _: Limits) -> Result<()> {
        Ok(())
    }
    fn write_weight(&mut self, _: WeightId, _: usize, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn finish_weights(&mut self) -> Result<()> {
        Ok(())
    }
    fn submit(&mut self, _: &Step<'_>) -> Result<()> {
        Ok(())
    }
    fn poll_logits(&mut self, _: &mut Context<'_>, _: &mut [f32]) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn prepare_sampling(&mut self, _: &SamplingRules) -> Result<usize> {
        Ok(self.seats)
    }
    fn submit_sampled(&mut self, _: &Step<'_>, _: &SampleRequest<'_>) -> Result<()> {
        self.busy_until = self.busy_until.max(self.now.get()) + self.step_ms;
        let mut back = self.busy_until + self.way_ms;
        if self.every_ms > 0.0 {
            back = (back / self.every_ms).ceil() * self.every_ms;
        }
        self.coming.borrow_mut().push_back(back);
        self.most.set(self.most.get().max(self.coming.borrow().len()));
        Ok(())
    }
    fn poll_token(&mut self, _: &mut Context<'_>) -> Poll<Result<u32>> {
        let back = self.coming.borrow_mut().pop_front().expect("a step was started");
        self.now.set(self.now.get().max(back));
        Poll::Ready(Ok(7))
    }
    fn copy_block(&mut self, _: CacheKind, _: u32, _: u32) -> Result<()> {
        unreachable!("nothing is forked")
    }

    fn part_bytes(&self, _: CachePart) -> usize {
        0
    }

    fn submit_read(&mut self, _: CachePart) -> Result<()> {
        unreachable!("nothing is saved")
    }

    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<Result<()>> {
        unreachable!("nothing is saved")
    }

    fn write_part(&mut self, _: CachePart, _: &[u8]) -> Result<()> {
        unreachable!("nothing is saved")
    }
    fn counters(&self) -> Counters {
        Counters::default()
    }
    fn memory(&self) -> Memory {
        Memory::default()
    }
}

/// Generates two answers. Returns the depth at their ends, and the most steps that were in flight.
fn depths(step_ms: f64, way_ms: f64, every_ms: f64, seats: usize) -> ([usize; 2], usize) {
    let (_, file) = golden::load("llama");
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap();
    let (now, most) = (Rc::new(Cell::new(0.0)), Rc::new(Cell::new(0)));
    let device = Device {
        now: now.clone(),
        coming: Coming::default(),
        busy_until: 0.0,
        step_ms,
        way_ms,
        every_ms,
        seats,
        most: most.clone(),
    };
    let options = Options { n_ctx: Some(200), ..Options::DEFAULT };
    let mut session = golden::open(&file, Box::new(device), options).unwrap();
    let mut answer = |first: u32| {
        let params = GenerateParams {
            max_tokens: Some(90),
            sampler: SamplerParams::greedy(),
            ignore_eos: true,
            ..GenerateParams::default()
        };
        // Someone reads the answer before they ask again.
        now.set(now.get() + 60_000.0);
        let mut g = Generation::new(&mut session, &tokenizer, &[first, 2, 3], params, now.get()).unwrap();
        while block_on(g.next(&mut session, &tokenizer, &|| now.get())).unwrap().is_some() {}
        session.queue_depth()
    };
    ([answer(1), answer(5)], most.get())
}

#[test]
fn where_the_device_is_what_tokens_wait_for_few_steps_are_in_flight() {
    for (step_ms, way_ms) in [(5.0, 0.5), (20.0, 2.0), (30.0, 0.0)] {
        let (depth, _) = depths(step_ms, way_ms, 0.0, 12);
        assert_eq!(depth, [3, 3], "{step_ms} ms a step, {way_ms} ms back");
    }
}

#[test]
fn where_tokens_wait_for_their_way_back_more_steps_are_in_flight() {
    // Ways of several steps, also where all that came until then comes at once.
    for (step_ms, way_ms, every_ms, want) in [(2.0, 9.0, 0.0, 6), (2.0, 100.0, 0.0, 12), (3.0, 0.0, 100.0, 12)] {
        let (depth, most) = depths(step_ms, way_ms, every_ms, 12);
        assert_eq!((depth, most), ([want, want], 12), "{step_ms} ms a step, {way_ms} ms back, every {every_ms} ms");
    }
}

#[test]
fn slow_steps_are_never_started_in_numbers() {
    let (depth, most) = depths(400.0, 100.0, 0.0, 12);
    assert_eq!((depth, most), ([3, 3], 3));
}

#[test]
fn no_more_steps_are_started_than_the_backend_has_room_for() {
    for (seats, want) in [(1, 1), (2, 2), (4, 3), (7, 6)] {
        let (depth, most) = depths(2.0, 100.0, 0.0, seats);
        assert_eq!((depth, most), ([want, want], want), "{seats} seats");
    }
}
