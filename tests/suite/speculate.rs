//! Speculative decoding: the tokens are those of plain decoding, whoever proposes.

use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{
    Draft, Event, GenerateParams, Generation, Options, ProposerName, SamplerParams, Session, SpeculateParams, Usage,
};
use pagelm::gguf::Gguf;
use pagelm::text::Tokenizer;
use pagelm::{ErrorKind, Result};
use pollster::block_on;

use super::golden::FIXTURES;
use crate::common::backends;
use crate::common::counting;
use crate::common::golden;

const OPTIONS: Options = Options { n_ctx: Some(96), max_tokens: 20, drafts: 4, mtp: true, ..Options::DEFAULT };

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::parse(&golden::load(name).1).unwrap().meta).unwrap()
}

fn open(name: &str, backend: Box<dyn Backend>) -> Session {
    golden::open(&golden::load(name).1, backend, OPTIONS).unwrap()
}

/// A model that proposes to that of a session.
fn draft(name: &str, target: &mut Session, of_target: &Tokenizer) -> Result<Draft> {
    let own = tokenizer(name);
    Draft::new((open(name, Box::new(Cpu::new(1))), &own), (target.engine(), of_target))
}

fn params(n: usize, sampler: SamplerParams, proposer: Option<ProposerName>) -> GenerateParams {
    let speculate = proposer.map(|proposer| SpeculateParams { proposer, max_draft: None });
    GenerateParams { max_tokens: Some(n), sampler, ignore_eos: true, speculate, ..GenerateParams::default() }
}

/// The tokens of a generation, and what it says of itself.
fn run(
    session: &mut Session,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    params: GenerateParams,
    draft: Option<Draft>,
) -> (Vec<u32>, Usage) {
    let mut g = Generation::with_draft(session, tokenizer, prompt, params, draft, 0.0).unwrap();
    loop {
        // A clock that stands still: proposals always pay.
        match block_on(g.next(session, tokenizer, &|| 0.0)).unwrap() {
            Some(Event::Done { usage, .. }) => return (g.generated().to_vec(), usage),
            Some(_) => {}
            None => panic!("no end before `Done`"),
        }
    }
}

#[test]
fn every_golden_prompt_says_the_same_with_each_proposer() {
    use ProposerName::{Draft as ByDraft, Lookup, Mtp};
    for name in FIXTURES {
        let (numbers, _) = golden::load(name);
        let tokenizer = tokenizer(name);
        for c in backends::all() {
            let mut session = open(name, (c.make)());
            for (p, proposer) in numbers.prompts.iter().flat_map(|p| [Lookup, Mtp, ByDraft].map(|by| (p, by))) {
                let Some(want) = &p.greedy else { continue };
                if proposer == Mtp && !session.has_mtp() {
                    continue;
                }
                let draft = (proposer == ByDraft).then(|| draft(name, &mut session, &tokenizer).unwrap());
                let n = want.tokens.len();
                let greedy = params(n, SamplerParams::greedy(), Some(proposer));
                let (got, usage) = run(&mut session, &tokenizer, &p.ids, greedy, draft);
                let what = format!("{name} on {} by {proposer:?}: {:?}", c.name, usage.speculated);
                assert_eq!(got, want.tokens, "{what}");
                let s = usage.speculated;
                assert!(s.accepted <= s.drafted && s.steps + s.accepted + 1 == n, "{what}");
                if proposer == ByDraft {
                    // The same model says the same, but for rare ties between kernels.
                    assert!(s.drafted > 0 && s.accepted * 10 >= s.drafted * 9, "{what}");
                }
            }
        }
    }
}

/// The same draws, not only the same distribution: a seed says the same with and without proposals.
#[test]
fn twenty_thousand_draws_are_the_same_with_proposals_as_without() {
    use ProposerName::{Draft as ByDraft, Lookup, Mtp};
    let n = 30;
    let mut draws = 0;
    for (name, proposer) in [("llama", Lookup), ("llama", ByDraft), ("qwen35_mtp", Mtp)] {
        let (numbers, _) = golden::load(name);
        let prompt = &numbers.prompts[1].ids;
        let tokenizer = tokenizer(name);
        let mut session = open(name, Box::new(Cpu::new(1)));
        let mut by = (proposer == ByDraft).then(|| draft(name, &mut session, &tokenizer).unwrap());
        let (mut drafted, mut accepted) = (0, 0);
        for seed in 0..223 {
            let sampler = SamplerParams { temperature: 0.4, seed, repeat_penalty: 1.05, ..SamplerParams::default() };
            let (want, _) = run(&mut session, &tokenizer, prompt, params(n, sampler.clone(), None), None);
            let speculated = params(n, sampler, Some(proposer));
            let mut g = Generation::with_draft(&mut session, &tokenizer, prompt, speculated, by.take(), 0.0).unwrap();
            let usage = loop {
                match block_on(g.next(&mut session, &tokenizer, &|| 0.0)).unwrap() {
                    Some(Event::Done { usage, .. }) => break usage,
                    Some(_) => {}
                    None => panic!("no end before `Done`"),
                }
            };
            assert_eq!(g.generated(), want, "{proposer:?} with seed {seed}");
            drafted += usage.speculated.drafted;
            accepted += usage.speculated.accepted;
            draws += want.len();
            by = g.take_draft();
        }
        // Random weights seldom repeat themselves: what was looked up is refused.
        assert!(drafted > accepted && (accepted > 0 || proposer == Lookup), "{proposer:?}: {accepted} of {drafted}");
    }
    assert!(draws >= 20_000, "{draws} draws");
}

#[test]
fn a_chain_of_predictions_takes_as_many_fewer_steps_as_it_is_long_and_right() {
    let tokenizer = tokenizer("qwen35_mtp");
    let file = counting::file();
    let n = 90;
    for c in backends::all() {
        let options = Options { n_ctx: Some(128), ..OPTIONS };
        let mut session = golden::open(&file, (c.make)(), options).unwrap();
        let samplers = [SamplerParams::greedy(), SamplerParams { temperature: 3.0, seed: 3, ..Default::default() }];
        for (sampler, greedy) in samplers.into_iter().zip([true, false]) {
            let (want, _) = run(&mut session, &tokenizer, &[3], params(n, sampler.clone(), None), None);
            let counted: Vec<u32> = std::iter::successors(Some(4), |t| Some(counting::next(*t))).take(n).collect();
            assert_eq!(want == counted, greedy, "{}: hot enough to err", c.name);
            let mut steps = Vec::new();
            for longest in 1..=4 {
                let speculate = Some(SpeculateParams { proposer: ProposerName::Mtp, max_draft: Some(longest) });
                let params = GenerateParams { speculate, ..params(n, sampler.clone(), None) };
                session.rollback(0).unwrap();
                let before = session.backend().counters().bytes_read;
                let (got, usage) = run(&mut session, &tokenizer, &[3], params, None);
                let s = usage.speculated;
                if c.name.starts_with("webgpu") {
                    // No logits: 8 bytes for each token that is verified, and 4 of a draft.
                    let read = session.backend().counters().bytes_read - before;
                    let most = 8 * (s.drafted + s.steps) + 4 * (s.drafted + n);
                    assert!(read <= most as u64, "{}: {read} bytes were read, {most} are enough: {s:?}", c.name);
                }
                assert_eq!(got, want, "{} with {longest}: {s:?}", c.name);
                assert!(s.accepted > 0 && s.drafted > s.accepted && s.steps + s.accepted + 1 == n, "{s:?}");
                steps.push(s.steps);
            }
            // The block errs once in six tokens, and what follows an error is one longer than what was right before it.
            let most = [45, 30, 30, 33];
            assert!(!greedy || steps.iter().zip(most).all(|(n, most)| *n <= most), "{}: {steps:?}", c.name);
        }
    }
}

#[test]
fn a_chain_and_the_step_that_verifies_it_are_in_flight_together_where_a_gpu_chooses() {
    let tokenizer = tokenizer("qwen35_mtp");
    let file = counting::file();
    for c in backends::all() {
        // The step after the prompt has two of its own.
        for longest in 2..=4 {
            let mut session = golden::open(&file, (c.make)(), Options { n_ctx: Some(128), ..OPTIONS }).unwrap();
            let speculate = Some(SpeculateParams { proposer: ProposerName::Mtp, max_draft: Some(longest) });
            let (_, usage) = run(
                &mut session,
                &tokenizer,
                &[3],
                GenerateParams { speculate, ..params(40, SamplerParams::greedy(), None) },
                None,
            );
            assert!(usage.speculated.drafted > longest, "{:?}", usage.speculated);
            let in_flight = session.backend().counters().in_flight;
            let want = if c.name.starts_with("webgpu") { 1 + longest as u64 } else { 0 };
            assert_eq!(in_flight, want, "{} with {longest}", c.name);
        }
    }
}

#[test]
fn a_text_that_repeats_itself_takes_fewer_steps_than_tokens() {
    let tokenizer = tokenizer("llama");
    let mut session = open("llama", Box::new(Cpu::new(1)));
    // Of two tokens one always wins: which one depends on the model, but a run of both comes again soon.
    let sampler = SamplerParams { logit_bias: vec![(5, 1000.0), (6, 1000.0)], ..SamplerParams::greedy() };
    let greedy = params(80, sampler, Some(ProposerName::Lookup));
    let (_, usage) = run(&mut session, &tokenizer, &[5, 6, 7], greedy, None);
    let s = usage.speculated;
    assert!(s.steps * 3 < 80 * 2 && s.accepted > 0, "{s:?}");
}

#[test]
fn proposers_that_cannot_be_had_are_refused() {
    let tokenizer = tokenizer("llama");
    let mut session = open("llama", Box::new(Cpu::new(1)));
    let refused = |session: &mut Session, proposer, max_draft, draft| {
        let speculate = Some(SpeculateParams { proposer, max_draft: Some(max_draft) });
        let params = GenerateParams { speculate, ..GenerateParams::default() };
        let e = Generation::with_draft(session, &tokenizer, &[1, 2], params, draft, 0.0).err().expect("is refused");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        e.detail().to_string()
    };
    let mtp = refused(&mut session, ProposerName::Mtp, 1, None);
    assert!(mtp.contains("without a block for multi-token prediction"), "{mtp}");
    let none = refused(&mut session, ProposerName::Draft, 1, None);
    assert!(none.contains("no draft model was given"), "{none}");
    let own = draft("llama", &mut session, &tokenizer).unwrap();
    let two = refused(&mut session, ProposerName::Lookup, 1, Some(own));
    assert!(two.contains("another proposer was asked for"), "{two}");
    for n in [0, 5] {
        let many = refused(&mut session, ProposerName::Lookup, n, None);
        assert!(many.contains("1 to 4 tokens"), "{many}");
    }
    // Rows of logits that are there for other sequences are none for proposals.
    let others = Options { sequences: 3, ..Options::DEFAULT };
    let mut without = golden::open(&golden::load("llama").1, Box::new(Cpu::new(1)), others).unwrap();
    let closed = refused(&mut without, ProposerName::Lookup, 1, None);
    assert!(closed.contains("opened without `drafts`"), "{closed}");
    // Another vocabulary, and a shorter context.
    let e = draft("gemma3", &mut session, &tokenizer).err().expect("another vocabulary");
    assert!(e.detail().contains("of the draft model is another"), "{e}");
    let short = Options { n_ctx: Some(95), ..OPTIONS };
    let short = golden::open(&golden::load("llama").1, Box::new(Cpu::new(1)), short).unwrap();
    let e = Draft::new((short, &tokenizer), (session.engine(), &tokenizer)).err().expect("a shorter context");
    assert!(e.detail().contains("context of 95 tokens"), "{e}");
}
