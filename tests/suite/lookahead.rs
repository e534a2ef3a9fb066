//! Generation with steps in flight ahead of the token that is read, against generation step by step on the same kernels.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::Options as GpuOptions;
use pagelm::backend::{Backend, Counters, Limits, Memory, SampleRequest, Segment, Step};
use pagelm::engine::{Event, GenerateParams, Generation, Options, Sampler, SamplerParams, Session, StopReason};
use pagelm::gguf::Gguf;
use pagelm::graph::{Plan, WeightId};
use pagelm::text::Tokenizer;
use pagelm::{DType, ErrorKind, Result};
use pollster::block_on;

use crate::common::backends::{gpu, gpu_wanted};

use crate::common::faulty::{Faulty, cache_of};
use crate::common::golden;

const OPTIONS: Options = Options { n_ctx: Some(64), max_tokens: 16, max_outputs: 1, ..Options::DEFAULT };

/// Plain layers, sliding windows, recurrent states.
const MODELS: [&str; 3] = ["llama", "gemma3", "qwen35"];

/// A backend that samples no tokens.
struct Declines(Box<dyn Backend>);

impl Backend for Declines {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn supports(&self, dtype: DType) -> bool {
        self.0.supports(dtype)
    }
    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()> {
        self.0.prepare(plan, limits)
    }
    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        self.0.write_weight(w, offset, bytes)
    }
    fn finish_weights(&mut self) -> Result<()> {
        self.0.finish_weights()
    }
    fn submit(&mut self, step: &Step<'_>) -> Result<()> {
        self.0.submit(step)
    }
    fn poll_logits(&mut self, cx: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        self.0.poll_logits(cx, logits)
    }
    cache_of!(0);
    fn counters(&self) -> Counters {
        self.0.counters()
    }
    fn memory(&self) -> Memory {
        self.0.memory()
    }
}

struct Bench {
    session: Session,
    tokenizer: Tokenizer,
}

impl Bench {
    fn new(file: &[u8], ahead: bool) -> Self {
        // Gemma's fixture has no tokenizer of its own; which one cuts the text into pieces does not matter here.
        let llama = golden::load("llama").1;
        let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&llama).unwrap().meta).unwrap();
        let gpu = Box::new(gpu(GpuOptions::default()));
        let backend: Box<dyn Backend> = if ahead { gpu } else { Box::new(Declines(gpu)) };
        Self { session: golden::open(file, backend, OPTIONS).unwrap(), tokenizer }
    }

    fn next(&mut self, g: &mut Generation) -> Result<Option<Event>> {
        block_on(g.next(&mut self.session, &self.tokenizer, &|| 0.0))
    }

    /// The tokens up to the `stop`th, at which the generation is dropped, or to its end.
    fn run(&mut self, prompt: &[u32], params: GenerateParams, stop: usize) -> (Vec<u32>, Option<StopReason>) {
        let mut g = Generation::new(&mut self.session, &self.tokenizer, prompt, params, 0.0).unwrap();
        while g.generated().len() < stop {
            if let Some(Event::Done { reason, .. }) = self.next(&mut g).unwrap() {
                return (g.generated().to_vec(), Some(reason));
            }
        }
        (g.generated().to_vec(), None)
    }

    fn counters(&self) -> Counters {
        self.session.backend().counters()
    }
}

fn params(max_tokens: Option<usize>, sampler: SamplerParams) -> GenerateParams {
    GenerateParams { max_tokens, sampler, ignore_eos: true, ..GenerateParams::default() }
}

fn samplers() -> [SamplerParams; 4] {
    let base = SamplerParams { seed: 11, ..SamplerParams::default() };
    let penalised = SamplerParams { repeat_penalty: 1.2, presence_penalty: 0.1, penalty_last_n: 9, ..base.clone() };
    [
        SamplerParams::greedy(),
        base.clone(),
        SamplerParams { temperature: 0.8, top_k: 40, top_p: 0.9, min_p: 0.01, ..base },
        SamplerParams { top_p: 0.8, ..penalised },
    ]
}

/// Gives each model with a bench that runs ahead and one that does not.
fn both(check: impl Fn(&str, &[u32], &mut Bench, &mut Bench)) {
    if !gpu_wanted() {
        return;
    }
    for name in MODELS {
        let (numbers, file) = golden::load(name);
        let (mut ahead, mut behind) = (Bench::new(&file, true), Bench::new(&file, false));
        check(name, &numbers.prompts[1].ids, &mut ahead, &mut behind);
        assert!(ahead.counters().in_flight >= 3, "{name}: {:?}", ahead.counters());
        assert!(behind.counters().in_flight <= 1, "{name}");
    }
}

#[test]
fn tokens_are_the_same_with_steps_ahead_and_without() {
    both(|name, prompt, ahead, behind| {
        for sampler in samplers() {
            let want = behind.run(prompt, params(Some(24), sampler.clone()), usize::MAX);
            assert_eq!((want.0.len(), want.1), (24, Some(StopReason::MaxTokens)));
            assert_eq!(ahead.run(prompt, params(Some(24), sampler.clone()), usize::MAX), want, "{name}: {sampler:?}");
        }
        // To the last row of the cache, and the token after it.
        let want = behind.run(prompt, params(None, samplers()[1].clone()), usize::MAX);
        assert_eq!(want.1, Some(StopReason::ContextFull));
        assert_eq!(ahead.run(prompt, params(None, samplers()[1].clone()), usize::MAX), want, "{name}");
    });
}

#[test]
fn a_conversation_stopped_at_any_token_goes_on_as_without_lookahead() {
    both(|name, prompt, ahead, behind| {
        let sampler = samplers()[2].clone();
        for stop in 1..8 {
            ahead.session.rollback(0).unwrap();
            behind.session.rollback(0).unwrap();
            let (first, _) = behind.run(prompt, params(None, sampler.clone()), stop);
            assert_eq!(ahead.run(prompt, params(None, sampler.clone()), stop).0, first, "{name}: stop at {stop}");
            assert_eq!(ahead.session.tokens(), behind.session.tokens(), "{name}: stop at {stop}");
            let turn = [prompt, &first, &[7, 8, 9]].concat();
            let want = behind.run(&turn, params(Some(9), sampler.clone()), usize::MAX);
            let got = ahead.run(&turn, params(Some(9), sampler.clone()), usize::MAX);
            assert_eq!(got, want, "{name}: went on after {stop}");
            // And back into the midst of it.
            let want = behind.run(&turn[..turn.len() - 4], params(Some(5), SamplerParams::greedy()), usize::MAX);
            let got = ahead.run(&turn[..turn.len() - 4], params(Some(5), SamplerParams::greedy()), usize::MAX);
            assert_eq!(got, want, "{name}: went back after {stop}");
        }
    });
}

#[test]
fn steps_of_all_other_kinds_may_follow_steps_that_nobody_reads() {
    both(|name, prompt, ahead, behind| {
        let sampler = samplers()[1].clone();
        ahead.run(prompt, params(None, sampler.clone()), 3);
        behind.run(prompt, params(None, sampler), 3);
        for b in [&mut *ahead, behind] {
            assert_eq!(b.session.in_flight(), if b.counters().in_flight > 1 { 2 } else { 0 }, "{name}");
        }
        let got = block_on(ahead.session.decode(5)).unwrap().to_vec();
        let want = block_on(behind.session.decode(5)).unwrap().to_vec();
        // Tokens of recurrent models run again in other steps than at first, and so by other kernels.
        let off = golden::max_diff(&got, &want);
        assert!(off <= if name == "qwen35" { 2e-3 } else { 0.0 }, "{name}: off by {off:e}");
        assert_eq!(ahead.session.in_flight(), 0);
    });
}

#[test]
fn a_dropped_future_of_next_loses_no_token() {
    if !gpu_wanted() {
        return;
    }
    for name in MODELS {
        let (numbers, file) = golden::load(name);
        let prompt = &numbers.prompts[1].ids;
        let sampler = samplers()[1].clone();
        let want = Bench::new(&file, false).run(prompt, params(Some(12), sampler.clone()), usize::MAX).0;
        let mut b = Bench::new(&file, true);
        b.session = golden::open(&file, Box::new(Faulty::new(gpu(GpuOptions::default())).slow()), OPTIONS).unwrap();
        let mut g = Generation::new(&mut b.session, &b.tokenizer, prompt, params(Some(12), sampler), 0.0).unwrap();
        let (mut over, mut dropped) = (false, 0);
        while !over {
            let now = || 0.0;
            let polled = pin!(g.next(&mut b.session, &b.tokenizer, &now)).poll(&mut Context::from_waker(Waker::noop()));
            let event = match polled {
                Poll::Ready(event) => event,
                Poll::Pending => {
                    dropped += 1;
                    b.next(&mut g)
                }
            };
            over = matches!(event.unwrap(), Some(Event::Done { .. }));
        }
        assert_eq!(g.generated(), want, "{name}");
        assert!(dropped > 5, "{name}: {dropped} futures were dropped");
    }
}

#[test]
fn a_token_makes_nothing_and_reads_four_bytes() {
    both(|name, prompt, ahead, _| {
        let mut g =
            Generation::new(&mut ahead.session, &ahead.tokenizer, prompt, params(None, samplers()[3].clone()), 0.0)
                .unwrap();
        while g.generated().is_empty() {
            ahead.next(&mut g).unwrap();
        }
        let before = ahead.counters();
        for _ in 0..10 {
            ahead.next(&mut g).unwrap();
        }
        let c = ahead.counters();
        assert_eq!((c.submits - before.submits, c.passes - before.passes, c.steps - before.steps), (10, 10, 10));
        assert_eq!(c.bytes_read - before.bytes_read, 40, "{name}");
        assert!(c.bytes_written - before.bytes_written < 10 * 1400, "{name}: {c:?}");
        assert_eq!((c.buffers, c.pipelines), (before.buffers, before.pipelines), "{name}");
    });
}

#[test]
fn a_bias_goes_by_way_of_the_host() {
    both(|name, prompt, ahead, behind| {
        let biased = SamplerParams { logit_bias: vec![(40, 6.0)], ..samplers()[1].clone() };
        let before = ahead.counters().bytes_read;
        let got = ahead.run(prompt, params(Some(6), biased.clone()), usize::MAX);
        assert!(ahead.counters().bytes_read - before > 6 * 4 * 40, "{name}: whole rows are read");
        assert_eq!(got, behind.run(prompt, params(Some(6), biased), usize::MAX), "{name}");
        // Other generations are not slowed by it.
        ahead.run(prompt, params(Some(6), samplers()[1].clone()), usize::MAX);
    });
}

#[test]
fn tokens_that_are_not_those_in_flight_start_anew() {
    both(|name, prompt, ahead, behind| {
        let next = |b: &mut Bench, all: &[u32]| {
            let mut sampler = Sampler::new(SamplerParams::greedy()).unwrap();
            block_on(b.session.next_token(all, &mut sampler, 8, &|| 0.0)).unwrap()
        };
        let id = next(ahead, prompt);
        assert_eq!(next(behind, prompt), id, "{name}");
        let other = [prompt, &[id, 9, 10]].concat();
        assert_eq!(next(ahead, &other), next(behind, &other), "{name}");
        assert_eq!(ahead.session.tokens(), other, "{name}");
    });
}

#[test]
fn a_prompt_that_goes_on_with_the_very_token_in_flight_is_sampled_by_its_own_rules() {
    both(|name, prompt, ahead, behind| {
        let first = |b: &mut Bench| {
            let (tokens, _) = b.run(prompt, params(Some(8), SamplerParams::greedy()), 2);
            // The third token of the first generation is in flight, or was never asked for.
            let more = [prompt, &tokens].concat();
            let hot = SamplerParams { temperature: 3.0, seed: 5, ..SamplerParams::default() };
            b.run(&more, params(Some(6), hot), usize::MAX)
        };
        assert_eq!(first(ahead), first(behind), "{name}");
    });
}

#[test]
fn tokens_of_several_steps_may_come_with_one_call() {
    both(|name, prompt, ahead, behind| {
        let long: Vec<u32> = prompt.iter().copied().cycle().take(2 * OPTIONS.max_tokens + 3).collect();
        let next = |b: &mut Bench| {
            let mut sampler = Sampler::new(SamplerParams::greedy()).unwrap();
            block_on(b.session.next_token(&long, &mut sampler, 4, &|| 0.0)).unwrap()
        };
        assert_eq!(next(ahead), next(behind), "{name}");
    });
}

#[test]
fn a_backend_that_samples_nothing_leaves_it_to_the_host() {
    let (_, file) = golden::load("llama");
    let mut session = golden::open(&file, Box::new(Reference::new()), OPTIONS).unwrap();
    let mut sampler = Sampler::new(SamplerParams::greedy()).unwrap();
    let id = block_on(session.next_token(&[1, 2], &mut sampler, 4, &|| 0.0)).unwrap();
    assert_eq!((session.in_flight(), session.tokens()), (0, &[1, 2][..]));
    let nothing = block_on(session.next_token(&[1, 2], &mut sampler, 4, &|| 0.0)).expect_err("nothing new");
    assert_eq!(nothing.kind(), ErrorKind::EmptyPrompt);
    session.rollback(0).unwrap();
    let logits = block_on(session.prefill(&[1, 2])).unwrap();
    assert_eq!(Sampler::new(SamplerParams::greedy()).unwrap().sample(logits, &[]).unwrap(), id);
    let mut backend = Reference::new();
    assert_eq!(block_on(poll_fn(|cx| backend.poll_token(cx))).expect_err("none").kind(), ErrorKind::InvalidState);
    let step = Step { segments: &[Segment::alone(&[1], 0, 1)], ..Step::trunk(&[]) };
    let request = SampleRequest { rules: &sampler.rules().unwrap(), key: 0, history: Some(&[1]), masked: false };
    assert_eq!(backend.submit_sampled(&step, &request).expect_err("none").kind(), ErrorKind::InvalidState);
}
