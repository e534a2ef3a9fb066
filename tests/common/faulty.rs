//! A backend that runs another one and does something wrong, or slowly.

use std::task::{Context, Poll};

use pagelm::backend::{Backend, Counters, Draw, Limits, Memory, SampleRequest, SamplingRules, Step};
use pagelm::graph::{Plan, WeightId};
use pagelm::{DType, Error, ErrorKind, Result};

/// Passes what concerns the cache on to another backend.
macro_rules! cache_of {
    ($($inner:tt)+) => {
        fn copy_block(&mut self, kind: pagelm::graph::CacheKind, from: u32, to: u32) -> pagelm::Result<()> {
            self.$($inner)+.copy_block(kind, from, to)
        }

        fn part_bytes(&self, part: pagelm::backend::CachePart) -> usize {
            self.$($inner)+.part_bytes(part)
        }

        fn submit_read(&mut self, part: pagelm::backend::CachePart) -> pagelm::Result<()> {
            self.$($inner)+.submit_read(part)
        }

        fn poll_read(
            &mut self,
            cx: &mut std::task::Context<'_>,
            bytes: &mut [u8],
        ) -> std::task::Poll<pagelm::Result<()>> {
            self.$($inner)+.poll_read(cx, bytes)
        }

        fn write_part(&mut self, part: pagelm::backend::CachePart, bytes: &[u8]) -> pagelm::Result<()> {
            self.$($inner)+.write_part(part, bytes)
        }
    };
}

pub(crate) use cache_of;

/// Changes the logits of a step; gets the plan, and how many steps were submitted.
pub type Poke = Box<dyn Fn(&Plan, u64, &mut [f32])>;

pub struct Faulty<B> {
    inner: B,
    /// The logits of each step go through it.
    poke: Poke,
    /// How many submits from now one is refused.
    fail_in: Option<u32>,
    /// How many submits from now the device is lost.
    lose_in: Option<u32>,
    /// A step is not ready when it is asked for the first time.
    slow: bool,
    pending: bool,
    plan: Option<Plan>,
}

impl<B: Backend> Faulty<B> {
    /// Nothing is wrong with it yet.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            poke: Box::new(|_, _, _| ()),
            fail_in: None,
            lose_in: None,
            slow: false,
            pending: false,
            plan: None,
        }
    }

    pub fn poke(self, poke: impl Fn(&Plan, u64, &mut [f32]) + 'static) -> Self {
        Self { poke: Box::new(poke), ..self }
    }

    pub fn fail_in(self, fail_in: Option<u32>) -> Self {
        Self { fail_in, ..self }
    }

    pub fn lose_in(self, lose_in: Option<u32>) -> Self {
        Self { lose_in, ..self }
    }

    /// Counts a submit down to the loss of the device.
    fn count(&mut self) -> Result<()> {
        self.lose_in = self.lose_in.map(|n| n.saturating_sub(1));
        self.fault().map_or(Ok(()), Err)
    }

    pub fn slow(self) -> Self {
        Self { slow: true, ..self }
    }
}

impl<B: Backend> Backend for Faulty<B> {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn fault(&self) -> Option<Error> {
        (self.lose_in == Some(0)).then(|| Error::new(ErrorKind::DeviceLost, "lost"))
    }

    fn supports(&self, dtype: DType) -> bool {
        self.inner.supports(dtype)
    }

    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()> {
        self.plan = Some(plan.clone());
        self.inner.prepare(plan, limits)
    }

    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        self.inner.write_weight(w, offset, bytes)
    }

    fn finish_weights(&mut self) -> Result<()> {
        self.inner.finish_weights()
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<()> {
        self.count()?;
        if self.fail_in == Some(0) {
            self.fail_in = None;
            return Err(Error::new(ErrorKind::GpuError, "refused"));
        }
        self.fail_in = self.fail_in.map(|n| n - 1);
        self.pending = self.slow;
        self.inner.submit(step)
    }

    fn poll_logits(&mut self, cx: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        if std::mem::take(&mut self.pending) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let ready = self.inner.poll_logits(cx, logits);
        (self.poke)(self.plan.as_ref().expect("prepare comes first"), self.inner.counters().steps, logits);
        ready
    }

    fn prepare_sampling(&mut self, rules: &SamplingRules) -> Result<usize> {
        self.inner.prepare_sampling(rules)
    }

    fn submit_sampled(&mut self, step: &Step<'_>, request: &SampleRequest<'_>) -> Result<()> {
        self.count()?;
        self.pending = self.slow;
        self.inner.submit_sampled(step, request)
    }

    fn submit_masks(&mut self, masks: &[u32]) -> Result<()> {
        self.inner.submit_masks(masks)
    }

    fn poll_token(&mut self, cx: &mut Context<'_>) -> Poll<Result<u32>> {
        if std::mem::take(&mut self.pending) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.poll_token(cx)
    }

    fn prepare_rows(&mut self, rules: &SamplingRules) -> Result<bool> {
        self.inner.prepare_rows(rules)
    }

    fn submit_rows(&mut self, step: &Step<'_>, draws: &[Draw], drafted: usize) -> Result<()> {
        self.count()?;
        self.pending = self.slow;
        self.inner.submit_rows(step, draws, drafted)
    }

    fn poll_rows(&mut self, cx: &mut Context<'_>, tokens: &mut [Result<u32>]) -> Poll<Result<()>> {
        if std::mem::take(&mut self.pending) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.poll_rows(cx, tokens)
    }

    cache_of!(inner);

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn memory(&self) -> Memory {
        self.inner.memory()
    }
}
