//! Fused plans: the same numbers as the ops that they are made of, and few dispatches.

mod cache;
mod layers;

use pagelm::DType;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{FUSE_RULES, Options as GpuOptions};
use pagelm::backend::{Backend, Counters};
use pagelm::engine::{Model, Options};
use pagelm::gguf::Gguf;
use pagelm::graph::{Act, Attention, Delta, FuseRules, Op, Plan, Rope, RopeAxes, RopePairs, ValueId, expand};
use pollster::block_on;

use crate::common::backends::{self, gpu, gpu_wanted, parity, run};
use crate::common::cases::{Case, Parts};
use crate::common::{fixtures, golden, tol};

/// The architectures.
const FIXTURES: &[&str] =
    &["llama", "llama32", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "qwen35", "qwen35moe"];

/// Dispatches outside of the layers: embedding, the last sum of a layer with norms after it, last rows, norm, head,
/// soft cap.
const OUTSIDE: u64 = 6;

const OPTIONS: Options = Options { n_ctx: Some(96), max_tokens: 40, max_outputs: 1, ..Options::DEFAULT };

fn plan(name: &str) -> Plan {
    let file = fixtures::bytes(&format!("golden/{name}.gguf"));
    Model::new(&Gguf::parse(&file).unwrap(), &|_| true, &OPTIONS).unwrap().plan
}

/// The ops of a plan that some backend starts.
fn started(plan: &Plan) -> Vec<&'static str> {
    let made = |i: &usize| plan.graph.nodes[*i].shape.is_none() || !plan.in_place(ValueId(*i as u32));
    (0..plan.graph.nodes.len()).filter(made).map(|i| plan.graph.nodes[i].op.name()).collect()
}

#[test]
fn what_fused_ops_are_made_of_gives_the_graph_that_was_fused() {
    for name in FIXTURES {
        let plan = plan(name);
        let fused = plan.fused(&FUSE_RULES);
        let again = Plan::new(expand(&fused.graph));
        let ops = |p: &Plan| {
            let mut all: Vec<String> = (p.graph.nodes.iter())
                .map(|n| {
                    let weights: Vec<_> = n.op.weights().map(|w| p.graph.weight(w).name.clone()).collect();
                    format!("{} {weights:?} {:?}", n.op.name(), n.shape)
                })
                .filter(|text| !text.starts_with("slice"))
                .collect();
            // A norm with several readers is part of each of them, and of each once more when they are taken apart.
            all.sort();
            all.dedup();
            all
        };
        assert_eq!(ops(&again), ops(&plan), "{name}\n{fused}");
        assert!(started(&fused).len() * 2 < started(&plan).len() + 16, "{name} is hardly fused\n{fused}");
    }
}

#[test]
fn each_kind_of_layer_becomes_the_ops_that_were_looked_at() {
    let layers = |name: &str| started(&plan(name).fused(&FUSE_RULES)).join(" ");
    let llama = layers("llama");
    let attention = "fused_matmul rope_store attention fused_matmul fused_matmul fused_matmul";
    assert_eq!(llama, format!("embed {attention} {attention} last_rows rms_norm matmul"));
    let qwen35 = layers("qwen35");
    let delta = "fused_matmul ssm_conv delta_rule fused_matmul fused_matmul fused_matmul";
    assert_eq!(qwen35, format!("embed {delta} {delta} {delta} {attention} last_rows rms_norm matmul"));
    let gemma3 = layers("gemma3");
    let normed = "fused_matmul rope_store attention matmul norm_add fused_matmul matmul norm_add";
    assert!(gemma3.starts_with(&format!("embed {normed} {normed}")), "{gemma3}");
    let qwen3moe = layers("qwen3moe");
    let experts = "fused_matmul rope_store attention fused_matmul fused_matmul moe_route fused_matmul fused_matmul";
    assert!(qwen3moe.starts_with(&format!("embed {experts} {experts}")), "{qwen3moe}");
}

#[test]
fn the_reference_gives_the_same_logits_for_the_plan_and_the_fused_plan() {
    for name in FIXTURES {
        let (numbers, file) = golden::load(name);
        let gguf = Gguf::parse(&file).unwrap();
        let logits = |fuse: bool| {
            let mut model = Model::new(&gguf, &|_| true, &OPTIONS).unwrap();
            if fuse {
                model.plan = model.plan.fused(&FUSE_RULES);
            }
            let mut session = model.load(&gguf, &&*file, Box::new(Reference::new())).unwrap();
            block_on(session.prefill(&numbers.prompts[0].ids)).unwrap().to_vec()
        };
        // Sums in f64 in another order, rounded to f32.
        let diff = golden::max_diff(&logits(true), &logits(false));
        assert!(diff <= 1e-5, "{name}: {diff:e}");
    }
}

/// What one decoded token costs after the first one.
fn token(name: &str, options: GpuOptions) -> (Counters, Counters) {
    let (numbers, file) = golden::load(name);
    let mut session = golden::open(&file, Box::new(gpu(options)), OPTIONS).unwrap();
    let next = block_on(session.prefill(&numbers.prompts[0].ids)).map(|l| golden::argmax(l)).unwrap();
    block_on(session.decode(next)).unwrap();
    let before = session.backend().counters();
    block_on(session.decode(next)).unwrap();
    (before, session.backend().counters())
}

#[test]
fn a_token_is_one_submit_of_few_dispatches_and_allocates_nothing() {
    if !gpu_wanted() {
        return;
    }
    for name in FIXTURES {
        let options = GpuOptions { software: Some(false), ..GpuOptions::default() };
        let (before, after) = token(name, options);
        let dispatches = after.dispatches - before.dispatches;
        let g = plan(name).graph;
        let count = |is: fn(&Op) -> bool| g.nodes.iter().filter(|n| is(&n.op)).count() as u64;
        let (attention, delta) =
            (count(|op| matches!(op, Op::Attention { .. })), count(|op| matches!(op, Op::DeltaRule { .. })));
        let moe = count(|op| matches!(op, Op::MoeRoute { .. }));
        // Rows of this fixture's shared expert are 48 wide, no whole runs, which no file with quantised experts has: its
        // product, its gate and its sum stay apart.
        let apart = if matches!(*name, "qwen2moe" | "qwen35moe") { 3 * moe } else { 0 };
        // The past of these prompts is short: attention needs no second kernel.
        let most = 6 * attention + 6 * delta + 4 * moe + apart + OUTSIDE;
        assert!(dispatches <= most, "{name}: {dispatches} dispatches, {most} are allowed");
        assert_eq!((after.passes - before.passes, after.submits - before.submits), (1, 1), "{name}");
        assert_eq!((after.pipelines, after.buffers), (before.pipelines, before.buffers), "{name}");
        assert!(after.bytes_written - before.bytes_written <= 1400, "{name}");
    }
}

/// A layer of attention over odd widths: normed heads, biases, several types in one projection.
struct Layer {
    types: [DType; 3],
    d_head: usize,
    heads: (usize, usize),
    norms: bool,
    biases: bool,
    gated: bool,
    post_norm: bool,
}

fn attention_layer(p: &mut Parts, x: ValueId, l: &Layer) -> ValueId {
    let (n_head, n_kv_head) = l.heads;
    let d = l.d_head;
    let cols = 96;
    let norm = p.weight(DType::F32, 1, cols);
    let h = p.g.rms_norm(x, norm, 1e-5);
    let widths = [if l.gated { 2 * n_head * d } else { n_head * d }, n_kv_head * d, n_kv_head * d];
    let mut qkv = [h; 3];
    for ((y, dtype), rows) in qkv.iter_mut().zip(l.types).zip(widths) {
        let w = p.weight(dtype, rows, cols);
        *y = p.g.matmul(w, h);
        if l.biases {
            let b = p.weight(DType::F32, 1, rows);
            *y = p.g.add_bias(*y, b);
        }
    }
    let [mut q, mut k, v] = qkv;
    let mut gate = None;
    if l.gated {
        gate = Some(p.g.slice(q, 2 * d, d, d));
        q = p.g.slice(q, 2 * d, 0, d);
    }
    if l.norms {
        let w = p.weight(DType::F32, 1, d);
        q = p.g.rms_norm(q, w, 1e-6);
        let w = p.weight(DType::F16, 1, d);
        k = p.g.rms_norm(k, w, 1e-6);
    }
    let pairs = if l.norms { RopePairs::Halves } else { RopePairs::Adjacent };
    let rope = Rope { d_head: d, n_rot: d / 4 * 2, pairs, axes: RopeAxes::Time, base: 1e4, scale: 1.0, freqs: None };
    let (q, k) = (p.g.rope(q, rope), p.g.rope(k, rope));
    let (keys, values) = (p.stored(k, n_kv_head * d), p.stored(v, n_kv_head * d));
    let attn = Attention { n_head, n_kv_head, d_head: d, scale: 0.2, causal: true, window: None, softcap: None };
    let mut o = p.g.attention(q, keys, values, attn);
    if let Some(gate) = gate {
        o = p.g.sigmoid_gate(o, gate);
    }
    residual(p, x, o, (n_head * d, cols), l.post_norm)
}

/// `x + W y`, maybe with a norm between.
fn residual(p: &mut Parts, x: ValueId, y: ValueId, (from, to): (usize, usize), post_norm: bool) -> ValueId {
    let w = p.weight(DType::Q8_0, to, from);
    let y = p.g.matmul(w, y);
    if !post_norm {
        return p.g.add(x, y);
    }
    let w = p.weight(DType::F32, 1, to);
    let y = p.g.rms_norm(y, w, 1e-4);
    p.g.add(x, y)
}

fn ffn(p: &mut Parts, x: ValueId, act: Act, types: [DType; 2], d_ff: usize, post_norm: bool) -> ValueId {
    let norm = p.weight(DType::F32, 1, 96);
    let h = p.g.rms_norm(x, norm, 1e-5);
    let [gate, up] = types.map(|dtype| {
        let w = p.weight(dtype, d_ff, 96);
        p.g.matmul(w, h)
    });
    let y = p.g.glu(gate, up, act);
    residual(p, x, y, (d_ff, 96), post_norm)
}

/// Starts ops of the fused plan that single ops of the case would not.
fn all_fused(case: &Case, names: &[&str]) {
    let fused = case.plan.fused(&FUSE_RULES);
    for name in names {
        assert!(started(&fused).contains(name), "{}: no {name}\n{fused}", case.name);
    }
    let left = ["rope", "kv_store", "glu", "add_bias", "add", "l2_norm"];
    let found: Vec<_> = started(&fused).into_iter().filter(|n| left.contains(n)).collect();
    assert!(found.is_empty(), "{}: {found:?} are left\n{fused}", case.name);
}

#[test]
fn what_is_fused_follows_from_the_rules_that_a_backend_gives() {
    let layer = Layer {
        types: [DType::Q8_0; 3],
        d_head: 32,
        heads: (3, 1),
        norms: false,
        biases: false,
        gated: false,
        post_norm: true,
    };
    let case = Case::new("a layer", &[1], |p| {
        let x = p.input(96);
        let x = attention_layer(p, x, &layer);
        ffn(p, x, Act::Silu, [DType::Q5_0; 2], 160, false)
    });
    let count = |rules: FuseRules, name| started(&case.plan.fused(&rules)).into_iter().filter(|n| *n == name).count();
    let counts = |rules| (count(rules, "fused_matmul"), count(rules, "matmul"), count(rules, "rope_store"));
    assert_eq!(counts(FUSE_RULES), (3, 1, 1), "q with k and v, gate with up, down; a norm follows the other");
    assert_eq!(counts(FuseRules { run: 96, ..FUSE_RULES }), (2, 2, 1), "160 columns are not a multiple of 96");
    assert_eq!(counts(FuseRules { run: 64, ..FUSE_RULES }).0, 0, "neither are 96 or 160 of 64");
    assert_eq!(counts(FuseRules { max_parts: 2, ..FUSE_RULES }), (5, 1, 0), "q, k and v are not one value");
    assert_eq!(counts(FuseRules { vector: 64, ..FUSE_RULES }), (3, 1, 0), "heads of 32 are not a multiple of 64");
    let head = |head_norm| {
        let fused = plan("llama").fused(&FuseRules { head_norm, ..FUSE_RULES });
        started(&fused).split_off(started(&fused).len() - 2)
    };
    assert_eq!((head(false), head(true)), (vec!["rms_norm", "matmul"], vec!["last_rows", "fused_matmul"]));

    let case = Case::new("a sum with a norm", &[1], |p| {
        let (x, y) = (p.input(32), p.input(32));
        let (inner, outer) = (p.weight(DType::F32, 1, 32), p.weight(DType::F32, 1, 32));
        let y = p.g.rms_norm(y, inner, 1e-5);
        let x = p.g.add(x, y);
        let x = p.g.rms_norm(x, outer, 1e-5);
        let w = p.weight(DType::Q8_0, 32, 32);
        p.g.matmul(w, x)
    });
    let slots = |norm_add_with_next| {
        let fused = case.plan.fused(&FuseRules { norm_add_with_next, ..FUSE_RULES });
        assert!(started(&fused).contains(&"norm_add"), "{fused}");
        fused.slots.slots.len()
    };
    assert_eq!(slots(true), slots(false) + 1, "both operands live until the matmul is over");
}
