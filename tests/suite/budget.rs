//! A budget of tokens for reasoning: its end is written in the model's place, and the answer goes on.

use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{
    Batch, Event, GenerateParams, Generation, Options, ProposerName, ReasoningBudget, SamplerParams, Session,
    SpeculateParams,
};
use pagelm::gguf::Gguf;
use pagelm::grammar::GrammarSource;
use pagelm::text::Tokenizer;
use pollster::block_on;

use crate::common::backends;
use crate::common::golden;

const OPTIONS: Options =
    Options { n_ctx: Some(256), cache: Some(1200), sequences: 4, max_tokens: 20, drafts: 4, ..Options::DEFAULT };

fn tokenizer() -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::parse(&golden::load("llama").1).unwrap().meta).unwrap()
}

fn open(backend: Box<dyn Backend>) -> Session {
    golden::open(&golden::load("llama").1, backend, OPTIONS).unwrap()
}

fn params(tokens: usize, seed: u64) -> GenerateParams {
    GenerateParams {
        max_tokens: Some(60),
        ignore_eos: true,
        sampler: SamplerParams { seed, ..SamplerParams::default() },
        reasoning: Some(ReasoningBudget { open: String::new(), close: "</think>".to_owned(), tokens }),
        ..GenerateParams::default()
    }
}

/// The answers to these parameters, side by side if there are several.
fn run(session: &mut Session, tokenizer: &Tokenizer, all: Vec<GenerateParams>) -> Vec<Vec<u32>> {
    let prompt = tokenizer.encode("Some words. Some words.", Default::default()).unwrap();
    let mut answers = vec![Vec::new(); all.len()];
    if let [one] = &all[..] {
        let mut g = Generation::new(session, tokenizer, &prompt, one.clone(), 0.0).unwrap();
        while let Some(event) = block_on(g.next(session, tokenizer, &|| 0.0)).unwrap() {
            if let Event::Token { id, .. } = event {
                answers[0].push(id);
            }
        }
        return answers;
    }
    let mut batch = Batch::new(4);
    let engine = session.engine();
    for params in all {
        batch.add(engine, tokenizer, &prompt, params, 0.0).unwrap();
    }
    while !batch.is_empty() {
        for (id, event) in block_on(batch.next(engine, tokenizer, &|| 0.0)).unwrap() {
            if let Event::Token { id: token, .. } = event.unwrap() {
                answers[id as usize - 1].push(token);
            }
        }
    }
    answers
}

/// Where the end starts, checked to be there once.
fn end_of(answer: &[u32], tokenizer: &Tokenizer) -> usize {
    let end = tokenizer.encode("</think>", Default::default()).unwrap();
    let at = answer.windows(end.len()).position(|part| part == end);
    at.unwrap_or_else(|| panic!("{:?} has no end", String::from_utf8_lossy(&tokenizer.decode(answer, true))))
}

#[test]
fn the_end_of_the_block_comes_when_the_budget_is_used_up() {
    let tokenizer = tokenizer();
    let speculate = |p: GenerateParams| {
        let proposer = SpeculateParams { proposer: ProposerName::Lookup, max_draft: None };
        GenerateParams { speculate: Some(proposer), ..p }
    };
    for c in backends::all() {
        let mut session = open((c.make)());
        for budget in [0, 1, 7] {
            // A character may have to end: it has at most four bytes.
            let fits = |answer: &[u32]| {
                let at = end_of(answer, &tokenizer);
                assert!((budget..budget + 4).contains(&at), "{budget} {at}");
                assert!(answer.len() == 60, "the answer goes on");
            };
            for one in [
                params(budget, 5),
                speculate(params(budget, 6)),
                GenerateParams { logprobs: Some(1), ..params(budget, 7) },
            ] {
                run(&mut session, &tokenizer, vec![one]).iter().for_each(|answer| fits(answer));
            }
            let all = vec![params(budget, 1), params(budget, 2), params(budget, 3)];
            run(&mut session, &tokenizer, all).iter().for_each(|answer| fits(answer));
        }
        // A budget that is not used up changes nothing, nor does one of an answer that does not reason.
        let free = || GenerateParams { reasoning: None, ..params(0, 9) };
        let of = |open: &str, tokens| ReasoningBudget { open: open.to_owned(), close: "</think>".to_owned(), tokens };
        let never = GenerateParams { reasoning: Some(of("<think>", 3)), ..free() };
        let wide = GenerateParams { reasoning: Some(of("", 100)), ..free() };
        let expected = run(&mut session, &tokenizer, vec![free()]);
        assert_eq!(run(&mut session, &tokenizer, vec![never]), expected);
        assert_eq!(run(&mut session, &tokenizer, vec![wide]), expected);
    }
}

#[test]
fn a_grammar_goes_on_after_the_end() {
    let tokenizer = tokenizer();
    let lark =
        "start: T \" {\" /[a-z]{3}/ \"}\"\nT: A \"</think>\"\nA: /(?s:.*)/ & ~(/(?s:.*)/ \"</think>\" /(?s:.*)/)"
            .to_owned();
    let with = GenerateParams { grammar: Some(GrammarSource::Lark(lark)), ignore_eos: false, ..params(5, 3) };
    let mut session = open(Box::new(Cpu::new(1)));
    for answers in
        [run(&mut session, &tokenizer, vec![with.clone()]), run(&mut session, &tokenizer, vec![with.clone(), with])]
    {
        for answer in answers {
            let text = String::from_utf8(tokenizer.decode(&answer, true)).unwrap();
            let (before, after) = text.split_once("</think>").unwrap();
            assert!(
                before.chars().count() <= 60 && after.len() == 6 && after.starts_with(" {") && after.ends_with('}'),
                "{text}"
            );
        }
    }
}
