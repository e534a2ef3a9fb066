//! Tokens that must not come out, and those that end a text.

use super::*;

/// A session on a fixture to whose metadata something was added.
fn open_with(key: &str, value: Value, backend: Box<dyn Backend>) -> Result<Session> {
    let (_, file) = golden::load("llama");
    let mut gguf = Gguf::parse(&file)?;
    assert!(gguf.meta.insert(key.into(), value));
    Model::new(&gguf, &|d| backend.supports(d), &OPTIONS)?.load(&gguf, &&file[..], backend)
}

#[test]
fn suppressed_tokens_never_come_out() {
    let key = "tokenizer.ggml.suppress_tokens";
    for candidate in backends::all() {
        let mut b = Bench::new((candidate.make)());
        let (prompt, _) = b.reference();
        let run = |b: &mut Bench, params: GenerateParams| {
            let mut g = b.start(&prompt, params).unwrap();
            while b.next(&mut g).unwrap().is_some() {}
            g.generated().to_vec()
        };
        let usual = run(&mut b, greedy(16));
        let list = Array::Int(usual.iter().map(|&id| i64::from(id)).collect());
        b.session = open_with(key, Value::Array(list), (candidate.make)()).unwrap();
        let sampled =
            |top_k| SamplerParams { top_k, temperature: 2.0, repeat_penalty: 0.5, ..SamplerParams::default() };
        for sampler in [SamplerParams::greedy(), sampled(0), sampled(8)] {
            let tokens = run(&mut b, GenerateParams { sampler, ..greedy(16) });
            assert_eq!(tokens.len(), 16);
            assert!(tokens.iter().all(|id| !usual.contains(id)), "{}: {tokens:?} of {usual:?}", candidate.name);
        }
        b.session.rollback(0).unwrap();
        let logits = block_on(b.session.prefill(&prompt)).unwrap();
        assert!(usual.iter().all(|&id| logits[id as usize] == f32::NEG_INFINITY), "{}", candidate.name);
    }
}

#[test]
fn suppressed_tokens_do_not_hide_degenerate_logits() {
    let pokes: [fn(&mut [f32]); 2] = [|row| row.fill(0.5), |row| row[7] = f32::NAN];
    for poke in pokes {
        let faulty = Faulty::new(Reference::new()).poke(move |_: &Plan, _, row: &mut [f32]| poke(row));
        let list = Value::Array(Array::Uint(vec![7]));
        let mut session = open_with("tokenizer.ggml.suppress_tokens", list, Box::new(faulty)).unwrap();
        assert_eq!(block_on(session.prefill(&[1, 2])).unwrap_err().kind(), ErrorKind::DegenerateLogits);
    }
}

#[test]
fn suppressed_tokens_that_are_none_are_refused() {
    let key = "tokenizer.ggml.suppress_tokens";
    let open = |list| open_with(key, Value::Array(list), Box::new(Reference::new())).err().map(|e| e.kind());
    assert_eq!(open(Array::Uint(vec![])), None);
    assert_eq!(open(Array::Uint(vec![1 << 32])), Some(ErrorKind::BadTokenizer));
    assert_eq!(open(Array::Int(vec![-1])), Some(ErrorKind::BadTokenizer));
    assert_eq!(open(Array::Float(vec![1.0])), Some(ErrorKind::WrongKeyType));
}

/// Runs a generation in which the token `id` is the only possible one from the first on.
fn forced(b: &mut Bench, id: u32, stop: &[&str]) -> Outcome {
    let all = (0..b.session.n_vocab() as u32).filter(|&other| other != id).map(|id| (id, f32::NEG_INFINITY));
    let sampler = SamplerParams { logit_bias: all.collect(), ..SamplerParams::greedy() };
    let stop = stop.iter().map(|s| (*s).to_owned()).collect();
    b.run(&[1, 2, 3], GenerateParams { sampler, stop, ..greedy(4) })
}

#[test]
fn a_stop_string_may_name_a_control_token() {
    let mut b = bench();
    let control: Vec<u32> = (0..b.session.n_vocab() as u32).filter(|&id| b.tokenizer.is_control(id)).collect();
    assert!(!control.is_empty());
    for id in control {
        let name = String::from_utf8(b.tokenizer.piece(id, true).unwrap().to_vec()).unwrap();
        let got = forced(&mut b, id, &["nothing", &name]);
        assert_eq!((got.reason, got.tokens.len(), &*got.text), (StopReason::StopString, 1, ""), "{name}");
        assert_eq!(forced(&mut b, id, &[&name.repeat(3)]).tokens.len(), 3, "{name}");
        // A part of the name is no text that was made.
        assert_eq!(forced(&mut b, id, &[&name[1..]]).reason, StopReason::MaxTokens, "{name}");
    }
}

#[test]
fn control_tokens_that_are_asked_for_come_as_text() {
    let mut b = Bench::new(Box::new(Reference::new()));
    let is_shown = |id: &u32| b.tokenizer.is_control(*id) && !b.tokenizer.is_end_of_generation(*id);
    let id = (0..b.session.n_vocab() as u32).find(is_shown).expect("the fixture has such a token");
    let name = String::from_utf8(b.tokenizer.piece(id, true).unwrap().to_vec()).unwrap();
    let all = (0..b.session.n_vocab() as u32).filter(|&other| other != id).map(|id| (id, f32::NEG_INFINITY));
    let sampler = SamplerParams { logit_bias: all.collect(), ..SamplerParams::greedy() };
    let params = GenerateParams { sampler, ..greedy(2) };
    assert_eq!(b.run(&[1, 2, 3], params.clone()).text, "");
    let show = vec!["<|nothing|>".to_owned(), name.clone()];
    let shown = GenerateParams { show, ..params };
    assert_eq!(b.run(&[1, 2, 3], shown.clone()).text, name.repeat(2));
    let stopped = b.run(&[1, 2, 3], GenerateParams { stop: vec![name], ..shown });
    assert_eq!((stopped.text.as_str(), stopped.reason), ("", StopReason::StopString));
}
