//! The graph: shapes, invariants, passes, slots.

use pagelm::DType;
use pagelm::graph::{
    Act, Attention, Builder, Dim, Entry, Graph, Op, Plan, Rope, RopeAxes, RopePairs, ValueId, assign, passes, verify,
};
use proptest::prelude::*;

/// A decoder layer with everything that `llama` uses: width 8, 2 heads over 1 kv head.
fn layer() -> Graph {
    let mut b = Builder::new();
    let embd = b.weight("token_embd.weight", DType::F32, 11, 8);
    let x = b.embed(embd, 1.0);
    let norm = b.weight("norm.weight", DType::F32, 1, 8);
    let h = b.rms_norm(x, norm, 1e-5);
    let wq = b.weight("q.weight", DType::F32, 8, 8);
    let wkv = b.weight("kv.weight", DType::F32, 4, 8);
    let (q, k) = (b.matmul(wq, h), b.matmul(wkv, h));
    let rope = Rope {
        d_head: 4,
        n_rot: 4,
        pairs: RopePairs::Halves,
        axes: RopeAxes::Time,
        base: 1e4,
        scale: 1.0,
        freqs: None,
    };
    let (q, k) = (b.rope(q, rope), b.rope(k, rope));
    let (ks, vs) = (b.state("k", 4), b.state("v", 4));
    b.kv_store(k, ks);
    b.kv_store(k, vs);
    let attn = Attention { n_head: 2, n_kv_head: 1, d_head: 4, scale: 0.5, causal: true, window: None, softcap: None };
    let o = b.attention(q, ks, vs, attn);
    let x = b.add(x, o);
    let up = b.matmul(wq, x);
    let h = b.glu(up, x, Act::Silu);
    let x = b.last_rows(h);
    let y = b.matmul(embd, x);
    b.finish(y)
}

#[test]
fn the_text_form_shows_shapes_operands_and_states() {
    let text = layer().to_string();
    for part in [
        "state k [ctx, 4]",
        "%0: [tokens, 8] = embed token_embd.weight:F32[11, 8] scale=1",
        "attention %4 k v heads=2/1 d_head=4 scale=0.5",
        "= last_rows",
        "output %13",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn the_verifier_refuses_a_read_of_an_effect_and_of_what_is_not_made_yet() {
    let mut g = layer();
    let store = g.nodes.iter().position(|n| matches!(n.op, Op::KvStore { .. })).unwrap();
    let add = g.nodes.iter().position(|n| matches!(n.op, Op::Add { .. })).unwrap();
    let Op::Add { a, .. } = g.nodes[add].op else { unreachable!() };
    g.nodes[add].op = Op::Add { a, b: ValueId(store as u32) };
    assert!(verify(&g).unwrap_err().contains("which is an effect"));
    g.nodes[add].op = Op::Add { a, b: ValueId(add as u32) };
    assert!(verify(&g).unwrap_err().contains("not made yet"));
}

#[test]
fn the_verifier_refuses_attention_over_rows_that_the_step_did_not_store() {
    let mut g = layer();
    let is_store = |n: &&pagelm::graph::Node| matches!(n.op, Op::KvStore { .. });
    let at = g.nodes.iter().position(|n| is_store(&n)).unwrap();
    let attention = g.nodes.iter().position(|n| matches!(n.op, Op::Attention { .. })).unwrap();
    let Op::Attention { q, k, v, gate, attn } = g.nodes[attention].op.clone() else { unreachable!() };
    // Move the attention before the stores: the operands are there, the rows are not.
    let node = pagelm::graph::Node { op: Op::Attention { q, k, v, gate, attn }, ..g.nodes[attention].clone() };
    g.nodes.insert(at, node);
    assert!(verify(&g).unwrap_err().contains("before this step's rows are stored"));
}

#[test]
fn the_verifier_refuses_a_shape_that_does_not_follow_from_the_op() {
    let mut g = layer();
    g.nodes[1].shape.as_mut().unwrap().cols = 9;
    assert!(verify(&g).is_err());
}

#[test]
#[should_panic(expected = "matmul: columns of x must be 7, is 8")]
fn the_builder_refuses_operands_that_do_not_fit() {
    let mut b = Builder::new();
    let embd = b.weight("token_embd.weight", DType::F32, 11, 8);
    let x = b.embed(embd, 1.0);
    let w = b.weight("w", DType::F32, 3, 7);
    b.matmul(w, x);
}

#[test]
fn dead_values_are_removed_and_effects_stay() {
    let mut b = Builder::new();
    let embd = b.weight("token_embd.weight", DType::F32, 11, 8);
    let x = b.embed(embd, 1.0);
    let dead = b.add(x, x);
    b.add(dead, x);
    let state = b.state("k", 8);
    let stored = b.softcap(x, 2.0);
    b.kv_store(stored, state);
    let y = b.last_rows(x);
    let g = passes::run(b.finish(y));
    let names: Vec<_> = g.nodes.iter().map(|n| n.op.name()).collect();
    assert_eq!(names, ["embed", "softcap", "kv_store", "last_rows"]);
    assert_eq!(g.output, ValueId(3));
}

/// A trunk that stores its rows, and a second part that reads them; `more` adds to the latter.
fn two_parts(more: impl FnOnce(&mut Builder, ValueId, ValueId) -> ValueId) -> Graph {
    let mut b = Builder::new();
    let embd = b.weight("token_embd.weight", DType::F32, 11, 8);
    let x = b.embed(embd, 1.0);
    let hidden = b.state("hidden", 8);
    b.kv_store(x, hidden);
    let y = b.last_rows(x);
    b.end_trunk(y);
    let h = b.kv_load(hidden);
    let z = more(&mut b, x, h);
    let z = b.last_rows(z);
    b.finish(z)
}

#[test]
fn each_part_keeps_its_nodes_and_its_output_when_dead_values_go() {
    let g = passes::run(two_parts(|b, _, h| {
        b.softcap(h, 1.0);
        let both = b.concat(h, h);
        b.slice(both, 16, 3, 5)
    }));
    let names = |p: pagelm::graph::Part| g.nodes[p.nodes].iter().map(|n| n.op.name()).collect::<Vec<_>>();
    assert_eq!(names(g.part(Entry::Trunk).unwrap()), ["embed", "kv_store", "last_rows"]);
    assert_eq!(names(g.part(Entry::Mtp).unwrap()), ["kv_load", "concat", "slice", "last_rows"]);
    assert_eq!((g.output, g.mtp), (ValueId(2), Some(ValueId(6))));
    // What the trunk gave back was read before the other part runs.
    let plan = Plan::new(g);
    assert_eq!(plan.slots.slots.iter().filter(|s| s.rows == Dim::Outputs).count(), 1, "{plan}");
    assert_eq!(layer().part(Entry::Mtp), None);
}

#[test]
#[should_panic(expected = "reads %0 of another part")]
fn the_verifier_refuses_a_value_of_another_part() {
    two_parts(|b, x, h| b.add(x, h));
}

#[test]
#[should_panic(expected = "before this step's rows are stored")]
fn the_verifier_refuses_attention_over_rows_of_another_part_s_step() {
    two_parts(|b, _, h| {
        let hidden = pagelm::graph::StateId(0);
        let attn =
            Attention { n_head: 1, n_kv_head: 1, d_head: 8, scale: 1.0, causal: true, window: None, softcap: None };
        b.attention(h, hidden, hidden, attn)
    });
}

#[test]
#[should_panic(expected = "only the trunk may have recurrent states")]
fn the_verifier_refuses_a_recurrent_state_outside_the_trunk() {
    two_parts(|b, _, h| {
        let w = b.weight("taps", DType::F32, 8, 4);
        let state = b.recurrent_state("conv", 3, 8);
        b.ssm_conv(h, w, state)
    });
}

#[test]
#[should_panic(expected = "reads s0, which nothing stores")]
fn the_verifier_refuses_to_load_rows_that_nothing_stores() {
    let mut b = Builder::new();
    let state = b.state("s", 8);
    let x = b.kv_load(state);
    let y = b.last_rows(x);
    b.finish(y);
}

#[test]
fn a_plan_counts_the_weight_bytes_of_a_token() {
    let plan = Plan::new(layer());
    // One embedding row, the norm, q twice, kv once (one value serves both states), and the tied head.
    let reads = plan.weight_reads(Entry::Trunk);
    assert_eq!(reads.bytes(1, 1), 4 * (8 + 8 + 64 + 32 + 64 + 88));
    // Of several tokens only the embedding rows are more; without logits there is no head.
    assert_eq!(reads.bytes(3, 2), 4 * (3 * 8 + 8 + 64 + 32 + 64 + 88));
    assert_eq!(reads.bytes(3, 0), 4 * (3 * 8 + 8 + 64 + 32 + 64));
    assert_eq!(plan.weight_reads(Entry::Mtp).bytes(3, 2), 0, "there is no such part");
}

#[test]
fn a_plan_counts_only_the_experts_that_a_token_uses() {
    let mut b = Builder::new();
    let embd = b.weight("embd", DType::F32, 16, 8);
    let router = b.weight("router", DType::F32, 5, 8);
    let experts = b.weight("experts", DType::F32, 5 * 8, 8);
    let x = b.embed(embd, 1.0);
    let logits = b.matmul(router, x);
    let route = b.moe_route(logits, 2, true);
    let y = b.moe_matmul(experts, x, route, 5);
    let y = b.moe_sum(y, route);
    let y = b.last_rows(y);
    let plan = Plan::new(b.finish(y));
    let reads = plan.weight_reads(Entry::Trunk);
    assert_eq!(reads.bytes(1, 1), 4 * (8 + 5 * 8 + 2 * 8 * 8));
    assert_eq!(reads.bytes(2, 1), 4 * (2 * 8 + 5 * 8 + 4 * 8 * 8));
    assert_eq!(reads.bytes(4, 1), 4 * (4 * 8 + 5 * 8 + 5 * 8 * 8), "there are no more than five");
}

/// A random graph: each node reads one or two values that came before it.
fn random_graph() -> impl Strategy<Value = Graph> {
    prop::collection::vec((0u8..4, any::<u16>(), any::<u16>()), 1..60).prop_map(|nodes| {
        let mut b = Builder::new();
        let widths = [8usize, 16, 24];
        let embds = widths.map(|w| b.weight("embd", DType::F32, 4, w));
        let mut values: Vec<(ValueId, usize)> = vec![(b.embed(embds[0], 1.0), 8)];
        for (kind, p, q) in nodes {
            let (x, width) = values[p as usize % values.len()];
            let (y, other) = values[q as usize % values.len()];
            let made = match kind {
                0 => (b.softcap(x, 1.0), width),
                1 if width == other => (b.add(x, y), width),
                2 => {
                    let to = widths[q as usize % 3];
                    let w = b.weight("w", DType::F32, to, width);
                    (b.matmul(w, x), to)
                }
                _ => {
                    let i = q as usize % 3;
                    (b.embed(embds[i], 1.0), widths[i])
                }
            };
            values.push(made);
        }
        let (x, _) = *values.last().unwrap();
        let y = b.last_rows(x);
        b.finish(y)
    })
}

proptest! {
    #[test]
    fn no_two_live_values_share_a_slot_and_no_step_writes_a_slot_that_it_reads(g in random_graph()) {
        let slots = assign(&g, None);
        let mut last_use: Vec<usize> = (0..g.nodes.len()).collect();
        for (i, node) in g.nodes.iter().enumerate() {
            node.op.operands().for_each(|x| last_use[x.index()] = i);
        }
        last_use[g.output.index()] = usize::MAX;
        for (i, node) in g.nodes.iter().enumerate() {
            let slot = slots.slot_of[i].unwrap();
            let shape = node.shape.unwrap();
            prop_assert_eq!(slots.slots[slot.0 as usize].rows, shape.rows);
            prop_assert!(slots.slots[slot.0 as usize].cols >= shape.cols);
            for x in node.op.operands() {
                prop_assert_ne!(slots.slot_of[x.index()].unwrap(), slot, "step {} writes what it reads", i);
            }
            for (j, last) in last_use.iter().enumerate().take(i) {
                let live = *last >= i;
                prop_assert!(!live || slots.slot_of[j].unwrap() != slot, "{} and {} live in {:?}", j, i, slot);
            }
        }
    }
}

#[test]
fn a_long_chain_of_values_needs_few_slots() {
    let plan = Plan::new(layer());
    let token_slots = plan.slots.slots.iter().filter(|s| s.rows == Dim::Tokens).count();
    assert!(token_slots <= 4, "{plan}");
}
