//! Multi-token prediction: against the numbers of another implementation, and its cache against itself.

mod chain;

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Waker};

use pagelm::backend::reference::Reference;
use pagelm::backend::{Backend, CachePart, Segment, Step};
use pagelm::engine::{Model, Options, Session};
use pagelm::gguf::{Gguf, Value};
use pagelm::graph::{CacheKind, Entry, Plan};
use pagelm::{DType, ErrorKind};
use pollster::block_on;

use crate::common::backends::{self, Candidate};
use crate::common::faulty::Faulty;
use crate::common::gguf_writer::GgufWriter;
use crate::common::golden::{self, Mtp, argmax, max_diff};
use crate::common::rng::Rng;

/// Steps of a length that divides no prompt.
const OPTIONS: Options = Options { n_ctx: Some(30), max_tokens: 7, max_outputs: 5, mtp: true, ..Options::DEFAULT };

/// Two f32 implementations are 1e-4 apart; a GPU's exp, sin and tanh are looser.
fn tolerance(session: &Session) -> f32 {
    if session.backend().name() == "webgpu" { 2e-3 } else { 3e-4 }
}

/// Runs `check` on both prompts of the fixture on every backend.
fn everywhere(check: impl Fn(&str, &Mtp, &mut Session)) {
    let (numbers, file) = golden::load("qwen35_mtp");
    assert_eq!(numbers.mtp.len(), 2);
    let reference = Candidate { name: "reference", make: || Box::new(Reference::new()), slack: 1.0 };
    for Candidate { name, make, .. } in backends::all().into_iter().chain([reference]) {
        let mut session = golden::open(&file, make(), OPTIONS).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (i, case) in numbers.mtp.iter().enumerate() {
            session.rollback(0).unwrap();
            check(&format!("prompt {i} on {name}"), case, &mut session);
        }
    }
}

/// Row j of the reference.
fn want(case: &Mtp, j: usize) -> &[f32] {
    let cols = case.logits_all.data.len() / case.ids.len();
    &case.logits_all.data[j * cols..][..cols]
}

/// That the block says for the token after `next` what the reference says in row j.
fn agrees(what: &str, case: &Mtp, j: usize, session: &mut Session) {
    let tol = tolerance(session);
    let row = block_on(session.mtp(case.next_ids[j])).unwrap();
    let diff = max_diff(row, want(case, j));
    assert!(diff <= tol, "{what}: row {j} is off by {diff:e}");
    assert_eq!(argmax(row), case.argmax[j], "{what}: row {j}");
}

#[test]
fn every_row_has_the_logits_and_the_greedy_token_of_the_reference() {
    everywhere(|what, case, s| {
        let tol = tolerance(s);
        block_on(s.prefill(&case.ids)).unwrap();
        let (mut rows, mut greedy) = (Vec::new(), Vec::new());
        let all = |row: &[f32]| {
            rows.extend_from_slice(row);
            greedy.push(argmax(row));
        };
        block_on(s.mtp_all(*case.next_ids.last().unwrap(), all)).unwrap();
        let diff = max_diff(&rows, &case.logits_all.data);
        assert!(diff <= tol, "{what}: off by {diff:e}");
        assert_eq!(greedy, case.argmax, "{what}");
    });
}

/// The reference with the fixture's weights, step by step.
fn reference() -> (Reference, Plan) {
    let (_, file) = golden::load("qwen35_mtp");
    let gguf = Gguf::parse(&file).unwrap();
    let options = Options { max_tokens: 24, max_outputs: 24, ..OPTIONS };
    let mut backend = Reference::new();
    let model = Model::new(&gguf, &|d| backend.supports(d), &options).unwrap();
    backend.prepare(model.plan.clone(), model.limits).unwrap();
    for piece in model.loader.clone().place(0, file.len()) {
        backend.write_weight(piece.weight, piece.offset, &file[piece.bytes]).unwrap();
    }
    (backend, model.plan)
}

/// The logits after each token of a step.
fn rows(backend: &mut Reference, plan: &Plan, entry: Entry, pos: usize, tokens: &[u32]) -> Vec<f32> {
    backend
        .submit(&Step { segments: &[Segment::alone(tokens, pos, tokens.len())], entry, ..Step::trunk(&[]) })
        .unwrap();
    let mut logits = vec![0.0; tokens.len() * plan.graph.n_vocab()];
    block_on(poll_fn(|cx| backend.poll_logits(cx, &mut logits))).unwrap();
    logits
}

#[test]
fn the_values_between_are_those_of_the_reference() {
    let (mut backend, plan) = reference();
    for case in &golden::load("qwen35_mtp").0.mtp {
        for (entry, tokens) in [(Entry::Trunk, &case.ids), (Entry::Mtp, &case.next_ids)] {
            rows(&mut backend, &plan, entry, 0, tokens);
        }
        for (name, want) in [("norm", &case.trunk_hidden), ("mtp.fused", &case.fused)] {
            let got = backend.value(backend.graph().named(name).unwrap());
            let got: Vec<f32> = got.iter().map(|&v| v as f32).collect();
            let largest = want.data.iter().fold(0f32, |m, v| m.max(v.abs()));
            // As for the hidden states of the trunk.
            let diff = max_diff(&got, &want.data);
            assert!(diff <= 1e-4 * largest, "{name} is off by {diff:e}, its largest value is {largest}");
        }
    }
}

#[test]
fn a_prompt_cut_anywhere_has_the_same_rows_before_and_after_the_cut() {
    everywhere(|what, case, s| {
        let n = case.ids.len();
        for cut in 1..n {
            s.rollback(0).unwrap();
            block_on(s.prefill_part(&case.ids[..cut])).unwrap();
            agrees(&format!("{what}, cut after {cut}"), case, cut - 1, s);
            block_on(s.prefill_part(&case.ids[cut..])).unwrap();
            agrees(&format!("{what}, cut after {cut}"), case, n - 1, s);
        }
    });
}

#[test]
fn token_by_token_each_call_runs_one_row_and_leaves_the_trunk_as_it_was() {
    everywhere(|what, case, s| {
        let without: Vec<Vec<f32>> = case.ids.iter().map(|id| block_on(s.decode(*id)).unwrap().to_vec()).collect();
        s.rollback(0).unwrap();
        for (j, id) in case.ids.iter().enumerate() {
            assert_eq!(block_on(s.decode(*id)).unwrap(), without[j], "{what}: the trunk's row {j}");
            let before = s.backend().counters().steps;
            agrees(what, case, j, s);
            assert_eq!(s.backend().counters().steps - before, 1, "{what}: row {j}");
        }
        assert_eq!(s.tokens(), case.ids);
    });
}

#[test]
fn after_a_wrong_guess_or_a_rollback_the_right_rows_come_again() {
    everywhere(|what, case, s| {
        let n = case.ids.len();
        block_on(s.prefill(&case.ids)).unwrap();
        // A guess that does not come true: nothing of it may be left.
        block_on(s.mtp(case.next_ids[n - 1] + 1)).unwrap();
        agrees(what, case, n - 1, s);
        for keep in [n - 1, n / 2, 1] {
            // Other tokens write the rows in between, in the trunk and in the block.
            s.rollback(keep).unwrap();
            block_on(s.prefill(&[7, 300])).unwrap();
            block_on(s.mtp(11)).unwrap();
            s.rollback(keep).unwrap();
            agrees(&format!("{what}, back to {keep}"), case, keep - 1, s);
            block_on(s.prefill(&case.ids[keep..])).unwrap();
            agrees(&format!("{what}, on from {keep}"), case, n - 1, s);
        }
    });
}

#[test]
fn a_block_that_may_predict_only_some_tokens_says_of_those_what_it_said() {
    let (numbers, file) = golden::load("qwen35_mtp");
    let case = &numbers.mtp[1];
    let n = case.ids.len();
    for c in backends::all() {
        for most in [1, 100, 384, 1000] {
            let what = format!("{most} tokens on {}", c.name);
            let options = Options { draft_vocab: Some(most), ..OPTIONS };
            let mut s = golden::open(&file, (c.make)(), options).unwrap();
            block_on(s.prefill(&case.ids)).unwrap();
            let before = s.engine().stats().done.weight_bytes;
            let tol = tolerance(&s);
            let row = block_on(s.mtp(case.next_ids[n - 1])).unwrap();
            let want = &want(case, n - 1)[..most.min(384)];
            let diff = max_diff(row, want);
            assert!(diff <= tol, "{what}: off by {diff:e}");
            assert_eq!(argmax(row), argmax(want), "{what}");
            // The block of 24 tokens: 128 bytes of a row of the embedding each, and as many of each row of the head.
            let once = s.engine().stats().done.weight_bytes - before;
            let all = Options { draft_vocab: None, ..OPTIONS };
            let plan = Model::new(&Gguf::parse(&file).unwrap(), &|_| true, &all).unwrap().plan;
            let reads = plan.weight_reads(Entry::Mtp);
            let whole = 3 * reads.bytes(7, 0) + reads.bytes(3, 1);
            assert_eq!(whole - once, 128 * (384 - most.min(384)) as u64, "{what}");
        }
    }
    let none = Options { draft_vocab: Some(0), ..OPTIONS };
    let e = golden::open(&file, Box::new(Reference::new()), none).err().expect("no token to choose from");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    let without = Options { draft_vocab: Some(8), mtp: false, ..OPTIONS };
    let e = golden::open(&file, Box::new(Reference::new()), without).err().expect("there is nothing that it limits");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_trunk_of_a_model_that_is_opened_with_its_block_gives_the_same_logits() {
    let (numbers, file) = golden::load("qwen35_mtp");
    for c in backends::all() {
        let open = |mtp| golden::open(&file, (c.make)(), Options { mtp, ..OPTIONS }).unwrap();
        let (mut with, mut without) = (open(true), open(false));
        for prompt in &numbers.mtp {
            with.rollback(0).unwrap();
            without.rollback(0).unwrap();
            let want = block_on(without.prefill(&prompt.ids)).unwrap();
            assert_eq!(block_on(with.prefill(&prompt.ids)).unwrap(), want, "{}", c.name);
        }
    }
}

#[test]
fn a_model_pays_for_the_block_only_where_it_is_there_and_wanted() {
    let plan = |name: &str, mtp| {
        let (_, file) = golden::load(name);
        Model::new(&Gguf::parse(&file).unwrap(), &|_| true, &Options { mtp, ..OPTIONS }).unwrap().plan
    };
    for name in ["llama", "qwen35"] {
        let wanted = plan(name, true);
        assert_eq!(wanted, plan(name, false), "{name}");
    }
    let (with, without) = (plan("qwen35_mtp", true), plan("qwen35_mtp", false));
    let extra = |names: Vec<&String>, less: Vec<&String>| names.into_iter().filter(|n| !less.contains(n)).count();
    let states = |p: &pagelm::graph::Plan| p.graph.states.len();
    assert_eq!(states(&with) - states(&without), 3, "keys, values, and the trunk's rows");
    let weights = |p: &'_ pagelm::graph::Plan| p.graph.weights.iter().map(|w| w.name.clone()).collect::<Vec<_>>();
    let (a, b) = (weights(&with), weights(&without));
    assert_eq!(extra(a.iter().collect(), b.iter().collect()), a.len() - b.len());
    assert!(b.iter().all(|n| !n.starts_with("blk.4.")), "{b:?}");
    let read = |p: &Plan| p.weight_reads(Entry::Trunk).bytes(1, 1);
    assert_eq!(read(&with), read(&without));
}

#[test]
fn what_cannot_be_predicted_is_refused_by_name() {
    let (_, file) = golden::load("qwen35_mtp");
    let open = |mtp| golden::open(&file, Box::new(Reference::new()), Options { mtp, ..OPTIONS }).unwrap();
    let mut without = open(false);
    block_on(without.prefill(&[1])).unwrap();
    assert!(!without.has_mtp());
    assert_eq!(block_on(without.mtp(1)).unwrap_err().kind(), ErrorKind::InvalidState);
    let mut s = open(true);
    assert!(s.has_mtp());
    assert_eq!(block_on(s.mtp(1)).unwrap_err().kind(), ErrorKind::EmptyPrompt);
    block_on(s.prefill(&[1])).unwrap();
    assert_eq!(block_on(s.mtp(384)).unwrap_err().kind(), ErrorKind::TokenOutOfRange);
}

#[test]
fn a_dropped_or_failed_prediction_leaves_the_session_usable() {
    let (numbers, file) = golden::load("qwen35_mtp");
    let case = &numbers.mtp[1];
    let n = case.ids.len();
    // The prompt takes four steps; the second of the block is refused.
    let backend = Faulty::new(Reference::new()).slow().fail_in(Some(5));
    let mut s = golden::open(&file, Box::new(backend), OPTIONS).unwrap();
    block_on(s.prefill(&case.ids)).unwrap();
    assert_eq!(block_on(s.mtp(case.next_ids[n - 1])).unwrap_err().kind(), ErrorKind::GpuError);
    {
        let mut dropped = pin!(s.mtp(case.next_ids[n - 1]));
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    agrees("after a failure and a dropped future", case, n - 1, &mut s);
}

/// The qwen35moe fixture with blocks for multi-token prediction behind its layers: copies of its attention layer with
/// random tensors of their own, among them an embedding and an output matrix. Those named in `without` are left out.
fn with_blocks(n: usize, without: &[&str]) -> Vec<u8> {
    let (_, file) = golden::load("qwen35moe");
    let gguf = Gguf::parse(&file).unwrap();
    let mut w = GgufWriter::new();
    for (key, value) in gguf.meta.iter() {
        w = match (key, value) {
            ("qwen35moe.block_count", Value::Uint(layers)) => w.u32(key, *layers as u32 + n as u32),
            _ => w.kv(key, value.clone()),
        };
    }
    w = w.u32("qwen35moe.nextn_predict_layers", n as u32);
    for t in &gguf.tensors {
        let bytes = &file[t.offset as usize..(t.offset + t.len) as usize];
        w = w.tensor(&t.name, t.dtype, &t.dims, bytes);
        for i in 0..n {
            if let Some(part) = t.name.strip_prefix("blk.3.").filter(|part| !without.contains(part)) {
                w = w.tensor(&format!("blk.{}.{part}", 4 + i), t.dtype, &t.dims, bytes);
            }
        }
    }
    let embd = &gguf.tensor("token_embd.weight").unwrap().dims;
    let (d, vocab) = (embd[0], embd[1]);
    let mut rng = Rng::named("blocks");
    let own: [(&str, &[u64]); 6] = [
        ("nextn.eh_proj.weight", &[2 * d, d]),
        ("nextn.enorm.weight", &[d]),
        ("nextn.hnorm.weight", &[d]),
        ("nextn.shared_head_norm.weight", &[d]),
        ("nextn.embed_tokens.weight", &[d, vocab]),
        ("nextn.shared_head_head.weight", &[d, vocab]),
    ];
    for (part, dims) in own.into_iter().filter(|(part, _)| !without.contains(part)) {
        let values = (0..dims.iter().product()).map(|_| rng.range(-0.2, 0.2));
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        for i in 0..n {
            w = w.tensor(&format!("blk.{}.{part}", 4 + i), DType::F32, dims, &bytes);
        }
    }
    w.finish()
}

#[test]
fn a_block_of_experts_with_matrices_of_its_own_runs_like_on_the_reference() {
    let ids = [5, 9, 77, 3, 200, 17, 40, 41, 8];
    let rows = |file: &[u8], backend: Box<dyn Backend>| {
        let mut s = golden::open(file, backend, OPTIONS).unwrap();
        let mut rows = Vec::new();
        block_on(s.prefill(&ids)).unwrap();
        block_on(s.mtp_all(11, |row| rows.extend_from_slice(row))).unwrap();
        rows
    };
    let file = with_blocks(1, &[]);
    let want = rows(&file, Box::new(Reference::new()));
    for c in backends::all() {
        let tol = if c.name.starts_with("webgpu") { 2e-3 } else { 3e-4 };
        let diff = max_diff(&rows(&file, (c.make)()), &want);
        assert!(diff <= tol, "{}: off by {diff:e}", c.name);
    }
    for part in ["nextn.embed_tokens.weight", "nextn.shared_head_head.weight"] {
        let shared = rows(&with_blocks(1, &[part]), Box::new(Reference::new()));
        assert!(max_diff(&shared, &want) > 0.1, "without {part} the trunk's matrix must be used");
    }
}

#[test]
fn a_block_that_is_not_whole_or_one_of_several_is_refused_where_it_is_wanted() {
    let open = |file: &[u8], mtp| golden::open(file, Box::new(Reference::new()), Options { mtp, ..OPTIONS });
    let file = with_blocks(1, &["nextn.enorm.weight", "attn_k.weight"]);
    let e = open(&file, true).err().expect("must be refused");
    assert_eq!(e.kind(), ErrorKind::MissingTensor);
    for name in ["`blk.4.nextn.enorm.weight`", "`blk.4.attn_k.weight`"] {
        assert!(e.detail().contains(name), "{e}");
    }
    assert!(open(&file, false).is_ok());
    let file = with_blocks(2, &[]);
    assert_eq!(open(&file, true).err().expect("must be refused").kind(), ErrorKind::BadConfig);
    assert!(open(&file, false).is_ok());
}
