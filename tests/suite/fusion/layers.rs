//! Layers give the same numbers fused, whatever their widths and types.

use super::*;

/// One to many rows of x, and a past that is longer than a chunk of split attention.
const STEPS: &[usize] = &[1, 3, 7, 13, 66, 270, 1, 2, 5, 9];

#[test]
fn a_layer_of_attention_is_the_same_fused_whatever_its_widths_and_types() {
    use DType::{BF16, F16, Q4_0, Q5_0, Q5_1, Q8_0};
    let plain = Layer {
        types: [Q4_0; 3],
        d_head: 32,
        heads: (3, 1),
        norms: false,
        biases: false,
        gated: false,
        post_norm: false,
    };
    let layers = [
        ("biases, three types", Layer { types: [Q5_1, Q8_0, BF16], biases: true, heads: (2, 2), ..plain }),
        ("norms, a gate", Layer { types: [Q8_0, Q5_0, Q5_0], norms: true, gated: true, heads: (6, 2), ..plain }),
        ("norms after", Layer { types: [F16, Q4_0, Q4_0], norms: true, post_norm: true, d_head: 64, ..plain }),
        ("nothing more", plain),
    ];
    for (what, l) in layers {
        let case = Case::new(format!("a layer with {what}"), STEPS, |p| {
            let x = p.input(96);
            let x = attention_layer(p, x, &l);
            let act = if l.post_norm { Act::GeluTanh } else { Act::Silu };
            let x = ffn(p, x, act, [Q5_0, Q4_0], 160, l.post_norm);
            attention_layer(p, x, &l)
        });
        all_fused(&case, &["fused_matmul", "rope_store", "attention"]);
        // Three blocks, each with the error of a layer; nothing scales their sums down.
        parity(&case, tol::LAYER.times(4.0));
    }
}

#[test]
fn a_past_of_several_chunks_is_joined_with_one_more_dispatch_for_each_layer() {
    if !gpu_wanted() {
        return;
    }
    let (types, d_head, heads) = ([DType::Q4_0; 3], 32, (3, 1));
    let l = Layer { types, d_head, heads, norms: false, biases: false, gated: false, post_norm: false };
    let case = Case::new("a long past", &[300, 1], |p| {
        let x = p.input(96);
        attention_layer(p, x, &l)
    });
    let mut b = gpu(GpuOptions { software: Some(false), ..GpuOptions::default() });
    backends::load(&mut b, &case).unwrap();
    let mut count = |pos: usize, n: usize| {
        let before = b.counters().dispatches;
        let segments = [pagelm::backend::Segment::alone(&case.tokens[..n], pos, 1)];
        let s = pagelm::backend::Step::trunk(&segments);
        backends::step(&mut b, &s, case.cols()).unwrap();
        b.counters().dispatches - before
    };
    assert_eq!(count(63, 1) + 1, count(64, 1));
}

#[test]
fn a_gated_delta_net_is_the_same_fused() {
    for (d_head, n_k_head, n_v_head) in [(8, 2, 4), (32, 1, 3), (12, 2, 2)] {
        let case = Case::new(format!("a delta net with heads of {d_head}"), &[1, 3, 17, 1, 6, 70, 1], |p| {
            let x = p.input(64);
            let (d_k, d_v) = (n_k_head * d_head, n_v_head * d_head);
            let norm = p.weight(DType::F32, 1, 64);
            let h = p.g.rms_norm(x, norm, 1e-5);
            let project = |p: &mut Parts, dtype, rows| {
                let w = p.weight(dtype, rows, 64);
                p.g.matmul(w, h)
            };
            let qkv = project(p, DType::Q8_0, 2 * d_k + d_v);
            let (alpha, beta) = (project(p, DType::F32, n_v_head), project(p, DType::F32, n_v_head));
            let z = project(p, DType::Q4_1, d_v);
            let taps = p.weight(DType::F32, 2 * d_k + d_v, 4);
            let conv = p.g.recurrent_state("conv", 3, 2 * d_k + d_v);
            let qkv = p.g.ssm_conv(qkv, taps, conv);
            let cols = 2 * d_k + d_v;
            let slices = [(0, d_k), (d_k, d_k), (2 * d_k, d_v)];
            let [q, k, v] = slices.map(|(start, len)| p.g.slice(qkv, cols, start, len));
            let (q, k) = (p.g.l2_norm(q, d_head, 1e-6, 0.25), p.g.l2_norm(k, d_head, 1e-6, 1.0));
            // Gates below one, as in a model: with others the state grows without bound.
            let a: Vec<f32> = (0..n_v_head).map(|_| p.rng.range(-2.0, -0.01)).collect();
            let (a, dt) = (p.weight_f32(1, &a), p.weight(DType::F32, 1, n_v_head));
            let state = p.g.recurrent_state("delta", d_v, d_head);
            let delta = Delta { n_k_head, n_v_head, d_head };
            let o = p.g.op(Op::DeltaRule { q, k, v, alpha, beta, a, dt, state, delta, norm: None });
            let w = p.weight(DType::F32, 1, d_head);
            let o = p.g.rms_norm(o, w, 1e-6);
            let o = p.g.glu(z, o, Act::Silu);
            // The width of the output projection's rows must be whole runs for it to be fused.
            let w = if d_v % 32 == 0 { p.weight(DType::Q5_1, 64, d_v) } else { p.weight(DType::F32, 64, d_v) };
            let y = p.g.matmul(w, o);
            p.g.add(x, y)
        });
        assert!(started(&case.plan.fused(&FUSE_RULES)).contains(&"fused_matmul"));
        parity(&case, tol::LAYER.times(2.0)); // the roundings of a layer, and those of the state
    }
}

#[test]
fn experts_are_the_same_fused_with_and_without_a_shared_one() {
    for (shared, types) in [(true, [DType::Q4_0, DType::Q5_1]), (false, [DType::Q8_0; 2])] {
        let case = Case::new(format!("experts, shared: {shared}"), &[1, 2, 5, 19, 40, 1], |p| {
            let (n_expert, n_used, d_ff) = (7, 3, 64);
            let x = p.input(96);
            let norm = p.weight(DType::F32, 1, 96);
            let h = p.g.rms_norm(x, norm, 1e-5);
            let router = p.weight(DType::F32, n_expert, 96);
            let logits = p.g.matmul(router, h);
            let route = p.g.moe_route(logits, n_used, true);
            let [gate, up] = types.map(|dtype| {
                let w = p.weight(dtype, n_expert * d_ff, 96);
                p.g.moe_matmul(w, h, route, n_expert)
            });
            let y = p.g.glu(gate, up, Act::Silu);
            let down = p.weight(DType::Q5_0, n_expert * 96, d_ff);
            let y = p.g.moe_matmul(down, y, route, n_expert);
            let mut y = p.g.moe_sum(y, route);
            if shared {
                let [gate, up] = types.map(|dtype| {
                    let w = p.weight(dtype, 160, 96);
                    p.g.matmul(w, h)
                });
                let s = p.g.glu(gate, up, Act::Silu);
                let down = p.weight(DType::Q4_1, 96, 160);
                let s = p.g.matmul(down, s);
                let w = p.weight(DType::F32, 1, 96);
                let by = p.g.matmul(w, h);
                let s = p.g.sigmoid_gate(s, by);
                y = p.g.add(y, s);
            }
            p.g.add(x, y)
        });
        all_fused(&case, &["fused_matmul", "moe_route"]);
        let dispatches = started(&case.plan.fused(&FUSE_RULES)).len();
        assert_eq!(dispatches, if shared { 8 } else { 6 }, "embedding, four to six, last rows");
        parity(&case, tol::LAYER);
        if !gpu_wanted() {
            continue;
        }
        // The matrices of the experts in several buffers each, of which each holds the values of 19 tokens.
        let case = case.cut(&[19, 19, 19, 10, 1]);
        for software in [false, true] {
            let options = GpuOptions { software: Some(software), ..GpuOptions::default() };
            let want = run(&mut gpu(options), &case).unwrap();
            let mut split = gpu(GpuOptions { max_binding: Some(23_000), ..options });
            tol::LAYER.check("split", &run(&mut split, &case).unwrap(), &want, 96);
        }
    }
}
