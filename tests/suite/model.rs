//! Whether a model fits: known before a byte of weights is read, and said with the numbers.

use std::future::poll_fn;

use pagelm::backend::cpu::Cpu;
use pagelm::backend::{BLOCK, Backend, KvType, Limits, Memory, Segment, Step, webgpu};
use pagelm::engine::{Fit, KV_TYPES, Model, Options, Session};
use pagelm::gguf::Gguf;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;

use crate::common::backends;
use crate::common::golden;
use crate::common::unread::Unread;

const MIB: u64 = 1 << 20;

/// Loads the header's model from weights that must not be read.
fn open(gguf: &Gguf, backend: Box<dyn Backend>, options: &Options) -> Result<Session> {
    Model::new(gguf, &|d| backend.supports(d), options)?.load(gguf, &Unread, backend)
}

fn refused(result: Result<Session>) -> Error {
    let e = result.err().expect("must be refused");
    assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{e}");
    e
}

#[test]
fn what_fits_is_the_whole_context_with_a_smaller_cache_or_the_longest_that_there_is_room_for() {
    for name in ["llama", "qwen35", "gemma3"] {
        let (_, file) = golden::load(name);
        let gguf = Gguf::parse(&file).unwrap();
        let options = Options { n_ctx: Some(9000), ..Options::DEFAULT };
        let model = Model::new(&gguf, &|_| true, &options).unwrap();
        let with = |kv_type, n_ctx| {
            let options = Options { kv_type, n_ctx: Some(n_ctx), ..options };
            Model::new(&gguf, &|_| true, &options).unwrap().memory()
        };
        let codes = |fit: &Fit| fit.changes.iter().map(|c| c.code).collect::<Vec<_>>();
        let [f16, q8] = KV_TYPES.map(|t| with(t, 9000).total());
        let fit = model.fit(&options, &KV_TYPES, f16).unwrap();
        assert_eq!((fit.context_length, fit.kv_type, codes(&fit)), (9000, KvType::F16, vec![]), "{name}");
        let fit = model.fit(&options, &KV_TYPES, f16 - 1).unwrap();
        assert_eq!((fit.context_length, fit.kv_type, codes(&fit)), (9000, KvType::Q8_0, vec!["kv-type"]), "{name}");
        assert_eq!(fit.memory, with(KvType::Q8_0, 9000));
        let fit = model.fit(&options, &KV_TYPES, q8 - 1).unwrap();
        assert_eq!((fit.context_length, fit.kv_type), (8960, KvType::Q8_0), "{name}");
        assert_eq!(codes(&fit), ["kv-type", "context-length"], "{name}");
        // A type that was asked for stays.
        let fit = model.fit(&options, &[KvType::F16], f16 - 1).unwrap();
        assert_eq!((fit.kv_type, codes(&fit)), (KvType::F16, vec!["context-length"]), "{name}");
        // What it says holds, whatever the room is, and one block more would not fit.
        let short = with(KvType::Q8_0, 512).total();
        for room in (0..20).map(|i| short + (q8 - short) * i / 20) {
            let fit = model.fit(&options, &KV_TYPES, room).unwrap();
            assert!(fit.memory.total() <= room, "{name}: {fit:?}");
            assert_eq!(fit.memory, with(fit.kv_type, fit.context_length));
            assert!(with(fit.kv_type, fit.context_length + BLOCK).total() > room, "{name}: {fit:?}");
        }
        let e = model.fit(&options, &KV_TYPES, short - BLOCK as u64 * 4096).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{name}: {e}");
        assert_eq!(model.fit(&options, &[], u64::MAX).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn out_of_memory_says_the_sum_and_the_context_that_fits() {
    // One of attention only, and one with recurrent states, whose cache has a part that does not grow.
    for name in ["llama", "qwen35"] {
        let (_, file) = golden::load(name);
        let gguf = Gguf::parse(&file).unwrap();
        let with = |n_ctx, memory| Options { n_ctx: Some(n_ctx), memory, ..Options::DEFAULT };
        let supports = |_| true;
        let memory = Model::new(&gguf, &supports, &with(9000, None)).unwrap().memory();
        let Memory { weights, kv, states, scratch, staging: 0 } = memory else { panic!("{memory:?}") };
        let sum = weights + kv + states + scratch;
        assert!(Model::new(&gguf, &supports, &with(9000, Some(sum))).is_ok());
        let e = refused(open(&gguf, Box::new(Cpu::new(1)), &with(9000, Some(sum - 1))));
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
        let said = format!(
            "the model needs {}: {} of weights, {} of cache for 9000 tokens and {} of scratch; {} are available",
            mib(sum),
            mib(weights),
            mib(kv + states),
            mib(scratch),
            mib(sum - 1)
        );
        assert!(e.detail().starts_with(&said), "{e}\n{said}");
        assert!(e.detail().ends_with("a context of 8960 tokens would fit"), "{e}");
        // Not even the weights: no context helps.
        let e = refused(open(&gguf, Box::new(Cpu::new(1)), &with(9000, Some(weights - 1))));
        assert!(e.detail().ends_with("use a smaller model or quantisation"), "{e}");
        // Sums beyond all numbers are refused like others.
        refused(open(&gguf, Box::new(Cpu::new(1)), &with(usize::MAX, Some(u64::MAX - 1))));
    }
}

#[test]
fn a_cache_larger_than_what_the_gpu_binds_is_refused_before_weights_are_read() {
    if !backends::gpu_wanted() {
        return;
    }
    let (_, file) = golden::load("llama");
    let gguf = Gguf::parse(&file).unwrap();
    let gpu = || Box::new(backends::gpu(webgpu::Options { spec_limits: true, ..webgpu::Options::default() }));
    let e = refused(open(&gguf, gpu(), &Options { n_ctx: Some(1 << 22), ..Options::DEFAULT }));
    assert!(e.detail().contains("the GPU can bind at most 134217728; lower the context length"), "{e}");
    let tight = webgpu::Options { max_binding: Some(100), ..webgpu::Options::default() };
    let e = refused(open(&gguf, Box::new(backends::gpu(tight)), &Options::DEFAULT));
    assert!(e.detail().contains("more than the GPU can bind"), "{e}");
}

/// Makes the cache as large as it gets: by a step at the end of the context that names the last blocks and slot.
fn fill(backend: &mut dyn Backend, limits: Limits) {
    let tables = limits.blocks.map(|n| vec![n as u32 - 1; limits.n_ctx.div_ceil(BLOCK)]);
    let (blocks, to) = ([&tables[0][..], &tables[1]], [limits.slots as u32 - 1]);
    // Without the bytes of the weights, which the step reads but does not need; a GPU says that they are missing.
    let _ = backend.finish_weights();
    let last = Segment { blocks, to: &to, ..Segment::alone(&[0], limits.n_ctx - 1, 0) };
    backend.submit(&Step::trunk(&[last])).unwrap();
    block_on(poll_fn(|cx| backend.poll_logits(cx, &mut []))).unwrap();
}

#[test]
fn limits_of_an_adapter_refuse_before_the_load_what_they_refuse_in_it() {
    if !backends::gpu_wanted() {
        return;
    }
    for name in ["llama", "gemma3", "qwen35", "qwen3moe"] {
        let (_, file) = golden::load(name);
        let gguf = Gguf::parse(&file).unwrap();
        // The cache is the largest buffer, then the values of a step. Of weights a binding needs only some rows.
        for (n_ctx, max_tokens, largest) in [(4096, 4, "blk."), (512, 512, "scratch of a step")] {
            let options = Options { n_ctx: Some(n_ctx), max_tokens, ..Options::DEFAULT };
            let model = Model::new(&gguf, &webgpu::supports, &options).unwrap();
            let mut refusals = Vec::new();
            for max_binding in (6..26).map(|n| 3u64 << n) {
                let options = webgpu::Options { max_binding: Some(max_binding), ..webgpu::Options::default() };
                let mut gpu = backends::gpu(options);
                let software = gpu.tuning().software;
                let before = webgpu::check_limits(&model.plan, model.limits, software, max_binding);
                assert_eq!(gpu.check_limits(&model.plan, model.limits), before);
                let prepared = gpu.prepare(model.plan.clone(), model.limits);
                assert_eq!(prepared.is_ok(), before.is_ok(), "{name}, {max_binding} bytes: {before:?}, {prepared:?}");
                refusals.extend(before.err());
            }
            assert!(refusals.iter().all(|e| e.kind() == ErrorKind::OutOfMemory), "{name}: {refusals:?}");
            let [first, .., last] = &refusals[..] else { panic!("{name}: the smallest are too small") };
            assert!(first.detail().contains("of weight `"), "{name}: {first}");
            assert!(last.detail().contains(largest), "{name}: {last}, not of {largest}");
        }
    }
}

#[test]
fn what_a_model_is_said_to_need_is_what_backends_hold() {
    for name in ["llama", "gemma3", "qwen35", "qwen35moe", "qwen35_mtp"] {
        let (_, file) = golden::load(name);
        let gguf = Gguf::parse(&file).unwrap();
        // Whole blocks of the CPU's cache, which are never cut.
        let options = Options { n_ctx: Some(2048), mtp: true, ..Options::DEFAULT };
        for c in backends::all() {
            let mut backend = (c.make)();
            let model = Model::new(&gguf, &|d| backend.supports(d), &options).unwrap();
            backend.prepare(model.plan.clone(), model.limits).unwrap();
            let (said, held) = (model.memory(), backend.memory());
            let what = format!("{name} on {}: {held:?}, said {said:?}", c.name);
            fill(&mut *backend, model.limits);
            // The CPU keeps the values of a head in whole registers of 16; heads of 12 are the smallest here.
            let most = if c.name.starts_with("cpu") { said.kv * 4 / 3 } else { said.kv };
            let filled = backend.memory();
            assert!((said.kv..=most).contains(&filled.kv), "{what}");
            assert_eq!((filled.states, filled.states > 0), (said.states, name.starts_with("qwen35")), "{what}");
            // Ends of buffers, tables, and what threads decode into: some hundred KiB, however large the model is.
            assert!(held.weights >= said.weights && held.weights <= said.weights + MIB / 2, "{what}");
            // Where a backend fuses ops, some of their values are never held; in models as small as these, few KiB.
            assert!(held.scratch.abs_diff(said.scratch) <= MIB / 2, "{what}");
        }
    }
}

#[test]
fn sums_of_attention_over_the_context_are_counted() {
    for name in ["llama", "gemma3", "qwen35"] {
        let (_, file) = golden::load(name);
        let gguf = Gguf::parse(&file).unwrap();
        let scratch = |n_ctx| {
            let model = Model::new(&gguf, &|_| true, &Options { n_ctx: Some(n_ctx), ..Options::DEFAULT }).unwrap();
            let mut cpu = Cpu::new(1);
            cpu.prepare(model.plan.clone(), model.limits).unwrap();
            (model.memory().scratch, cpu.memory().scratch)
        };
        let ((said, held), (said_long, held_long)) = (scratch(1000), scratch(9000));
        assert_eq!(said_long - said, held_long - held, "{name}");
        assert!(said_long > said, "{name}");
    }
}

#[test]
fn what_a_cache_in_fewer_bits_is_said_to_need_is_near_what_is_held() {
    let (_, file) = golden::load("llama");
    let gguf = Gguf::parse(&file).unwrap();
    let kv = |kv_type| {
        let options = Options { n_ctx: Some(2000), kv_type, ..Options::DEFAULT };
        Model::new(&gguf, &|_| true, &options).unwrap().memory().kv
    };
    assert_eq!(kv(KvType::F16) * 2, kv(KvType::F32));
    // 36 of 256 bytes for each 64 values, and at most a word more for each head: this one's are of 16.
    assert!((kv(KvType::F32) / 4..kv(KvType::F32) / 3).contains(&kv(KvType::Q8_0)));
    for kind in [KvType::F32, KvType::F16, KvType::Q8_0] {
        let options = Options { n_ctx: Some(2048), kv_type: Cpu::new(1).kv_type(kind), ..Options::DEFAULT };
        let model = Model::new(&gguf, &|_| true, &options).unwrap();
        let mut cpu = Cpu::new(1);
        cpu.prepare(model.plan.clone(), model.limits).unwrap();
        fill(&mut cpu, model.limits);
        // Its heads of 12 take registers of 16 for values, and one scale of two bytes for q8_0 where the sum has two.
        let (said, held) = (model.memory().kv, cpu.memory().kv);
        assert!(held * 20 >= said * 17 && held * 12 <= said * 16, "{kind:?}: {held}, said {said}");
    }
}
