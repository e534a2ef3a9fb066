//! Every op of the graph, on every backend, against the reference.

mod attention;
mod delta;
mod images;
mod moe;

use pagelm::DType;
use pagelm::backend::reference::Reference;
use pagelm::backend::{Backend, Segment, Step};
use pagelm::graph::{Act, Attention, Rope, RopeAxes, RopePairs};

use crate::common::backends::{self, parity};
use crate::common::cases::{Case, Parts, packed};
use crate::common::tol;

const ROWS: [usize; 4] = [1, 3, 17, 65];
const COLS: [usize; 6] = [1, 31, 33, 96, 576, 1757];

/// Every pair of rows and columns.
fn sizes() -> impl Iterator<Item = (usize, usize)> {
    ROWS.into_iter().flat_map(|rows| COLS.into_iter().map(move |cols| (rows, cols)))
}

/// The types that the reference can multiply by.
fn dtypes() -> impl Iterator<Item = DType> {
    let reference = Reference::new();
    DType::ALL.iter().copied().filter(move |&d| reference.supports(d))
}

/// Whole blocks, as near to `cols` as there are.
fn blocks(dtype: DType, cols: usize) -> usize {
    cols.div_ceil(dtype.block_elems()) * dtype.block_elems()
}

#[test]
fn every_type_that_a_backend_supports_has_random_blocks_and_a_reference() {
    let mut rng = crate::common::rng::Rng::named("blocks");
    for c in backends::all() {
        let backend = (c.make)();
        for &d in DType::ALL.iter().filter(|&&d| backend.supports(d)) {
            assert!(Reference::new().supports(d), "{} supports {d}, the reference does not", c.name);
            assert!(packed(&mut rng, d, 1, d.block_elems()).is_some(), "no random blocks of {d}");
        }
    }
}

#[test]
fn embed_gives_the_scaled_row_of_each_token() {
    for dtype in dtypes() {
        for (rows, cols) in [(1, 1), (3, 33), (17, 576)] {
            let cols = blocks(dtype, cols);
            let case = Case::new(format!("embed {dtype} [{rows}, {cols}]"), &[rows], |p| {
                let w = p.weight(dtype, p.vocab, cols);
                p.g.embed(w, 1.75)
            });
            parity(&case, tol::ELEMENT);
        }
    }
}

#[test]
fn matmul_is_one_dot_product_per_row_of_the_weight_in_every_type() {
    for dtype in dtypes() {
        for (rows, cols, out) in [(1, 96, 31), (3, 576, 33), (17, 1757, 96), (65, 33, 5)] {
            let cols = blocks(dtype, cols);
            let case = Case::new(format!("matmul {dtype} [{rows}, {cols}] to {out}"), &[rows], |p| {
                let x = p.input(cols);
                let w = p.weight(dtype, out, cols);
                p.g.matmul(w, x)
            });
            parity(&case, tol::DOT);
        }
    }
}

#[test]
fn matmul_takes_any_number_of_columns_and_rows() {
    for (rows, cols) in sizes() {
        for out in [1, 7, 33] {
            let case = Case::new(format!("matmul [{rows}, {cols}] to {out}"), &[rows], |p| {
                let x = p.input(cols);
                let w = p.weight(DType::F32, out, cols);
                p.g.matmul(w, x)
            });
            parity(&case, tol::DOT);
        }
    }
}

#[test]
fn add_bias_adds_the_row_to_each_row() {
    for (rows, cols) in sizes() {
        let case = Case::new(format!("add_bias [{rows}, {cols}]"), &[rows], |p| {
            let x = p.input(cols);
            let b = p.weight(DType::F32, 1, cols);
            p.g.add_bias(x, b)
        });
        parity(&case, tol::ELEMENT);
    }
}

#[test]
fn concat_puts_two_rows_side_by_side() {
    for (rows, cols) in sizes() {
        for other in [1, 4, 33] {
            let case = Case::new(format!("concat [{rows}, {cols}] and {other}"), &[rows], |p| {
                let a = p.input(cols);
                let b = p.input(other);
                p.g.concat(a, b)
            });
            parity(&case, tol::COPY);
        }
    }
}

#[test]
fn matmul_takes_the_first_rows_of_a_matrix() {
    for (dtype, cols) in
        [(DType::F16, 33), (DType::F32, 64), (DType::Q8_0, 64), (DType::Q4_K, 256), (DType::IQ2_XXS, 256)]
    {
        for rows in [1, 16, 37, 79] {
            let case = Case::new(format!("matmul with {rows} of 80 rows of {dtype}"), &[3, 1], |p| {
                let x = p.input(cols);
                let w = p.weight(dtype, 80, cols);
                p.g.matmul_rows(w, x, rows)
            });
            parity(&case, tol::DOT);
        }
    }
}

#[test]
fn kv_load_gives_the_rows_of_a_step_back_wherever_the_step_begins() {
    for (rows, cols) in sizes() {
        let case = Case::new(format!("kv_load [{rows}, {cols}]"), &[rows, 1, rows], |p| {
            let x = p.input(cols);
            let state = p.g.state("s", cols);
            p.g.kv_store(x, state);
            p.g.kv_load(state)
        });
        parity(&case.starting_at(3), tol::COPY);
    }
}

#[test]
fn kv_store_next_gives_each_row_to_the_position_after_it_in_this_step_and_the_next() {
    for cols in [1, 4, 33, 64] {
        let case = Case::new(format!("kv_store_next [{cols}]"), &[3, 1, 5], |p| {
            let x = p.input(cols);
            let state = p.g.state("s", cols);
            let last = p.g.last_rows(x);
            p.g.kv_store_next(last, state);
            p.g.kv_load(state)
        });
        parity(&case.starting_at(3), tol::COPY);
    }
}

#[test]
fn rms_norm_normalises_each_row() {
    for (rows, cols) in sizes() {
        let case = Case::new(format!("rms_norm [{rows}, {cols}]"), &[rows], |p| {
            let x = p.input(cols);
            let w = p.weight(DType::F32, 1, cols);
            p.g.rms_norm(x, w, 1e-5)
        });
        parity(&case, tol::ELEMENT.times(3.0)); // the mean of up to 1757 squares
    }
}

#[test]
fn rms_norm_with_a_short_weight_normalises_each_head() {
    for (heads, d_head) in [(1, 31), (3, 33), (9, 64), (5, 256)] {
        let case = Case::new(format!("rms_norm {heads} heads of {d_head}"), &[17], |p| {
            let x = p.input(heads * d_head);
            let w = p.weight(DType::F32, 1, d_head);
            p.g.rms_norm(x, w, 1e-6)
        });
        parity(&case, tol::ELEMENT.times(3.0));
    }
}

#[test]
fn rms_norm_of_zeros_is_zero() {
    let case = Case::new("rms_norm of zeros", &[3], |p| {
        let x = p.input_of(&vec![0.0; p.vocab * 33]);
        let w = p.weight(DType::F32, 1, 33);
        p.g.rms_norm(x, w, 1e-6)
    });
    parity(&case, tol::COPY);
}

fn rope_case(name: &str, heads: usize, rope: Rope, with_freqs: bool, steps: &[usize]) -> Case {
    let name = format!("rope {name} {heads} x {} rotating {} {:?}", rope.d_head, rope.n_rot, rope.pairs);
    Case::new(name, steps, |p| {
        let x = p.input(heads * rope.d_head);
        let freqs = with_freqs.then(|| {
            let f: Vec<f32> = (0..rope.n_rot / 2).map(|_| p.rng.range(1.0, 32.0)).collect();
            p.weight_f32(1, &f)
        });
        p.g.rope(x, Rope { freqs, ..rope })
    })
}

#[test]
fn rope_rotates_both_kinds_of_pairs_wholly_or_in_part() {
    for pairs in [RopePairs::Adjacent, RopePairs::Halves] {
        for (heads, d_head, n_rot) in [(1, 2, 2), (3, 6, 6), (9, 64, 64), (3, 64, 16), (1, 33, 10), (2, 96, 96)] {
            let rope = Rope { d_head, n_rot, pairs, axes: RopeAxes::Time, base: 10_000.0, scale: 1.0, freqs: None };
            parity(&rope_case("plain", heads, rope, false, &[17, 1, 65]), tol::ANGLE);
            let far = Rope { base: 1_000_000.0, scale: 0.125, ..rope };
            parity(&rope_case("scaled", heads, far, false, &[3, 1]).starting_at(1234), tol::ANGLE);
            parity(&rope_case("with freqs", heads, rope, true, &[3, 1]).starting_at(77), tol::ANGLE);
        }
    }
}

#[test]
fn add_adds_and_takes_the_same_value_twice() {
    for (rows, cols) in sizes() {
        let case = Case::new(format!("add [{rows}, {cols}]"), &[rows], |p| {
            let (a, b) = (p.input(cols), p.input(cols));
            let sum = p.g.add(a, b);
            p.g.add(sum, sum)
        });
        parity(&case, tol::ELEMENT);
    }
}

/// Values from -1e4 to 1e4 over all sizes in between, and zeros.
fn wide(p: &mut Parts, cols: usize) -> Vec<f32> {
    const EDGES: [f32; 10] = [1e4, -1e4, 0.0, -0.0, 88.8, -88.8, 104.0, -104.0, 9.1, -9.1];
    let mut one = |i: usize| if i.is_multiple_of(7) { EDGES[p.rng.below(10)] } else { p.rng.range(-6.0, 6.0) };
    (0..p.vocab * cols).map(&mut one).collect()
}

#[test]
fn glu_stays_finite_and_exact_for_huge_values_with_all_activations() {
    for act in [Act::Silu, Act::GeluTanh, Act::Gelu] {
        for (rows, cols) in sizes() {
            let case = Case::new(format!("glu {act:?} [{rows}, {cols}]"), &[rows], |p| {
                let gate = wide(p, cols);
                let gate = p.input_of(&gate);
                let up = p.input(cols);
                p.g.glu(gate, up, act)
            });
            parity(&case, tol::CURVE);
        }
    }
}

#[test]
fn softcap_bends_huge_values_to_the_cap() {
    for (rows, cols) in sizes() {
        let case = Case::new(format!("softcap [{rows}, {cols}]"), &[rows], |p| {
            let x = wide(p, cols);
            let x = p.input_of(&x);
            p.g.softcap(x, 30.0)
        });
        parity(&case, tol::CURVE);
    }
}

#[test]
fn last_rows_gives_the_last_rows_in_order() {
    for (tokens, outputs) in [(1, 1), (5, 1), (17, 3), (65, 0)] {
        let case = Case::new(format!("last_rows {outputs} of {tokens}"), &[tokens], |p| p.input(33));
        let s = Step { segments: &[Segment::alone(&case.tokens, 0, outputs)], ..Step::trunk(&[]) };
        let result = |b: &mut dyn Backend| backends::load(b, &case).and_then(|()| backends::step(b, &s, case.cols()));
        let want = result(&mut Reference::new()).expect("the reference runs it");
        for c in backends::all() {
            let got = result(&mut *(c.make)()).unwrap_or_else(|e| panic!("{} on {}: {e}", case.name, c.name));
            tol::COPY.check(c.name, &got, &want, case.cols());
        }
    }
}

/// Attention over three inputs, its keys and values stored first.
fn attention_case(steps: &[usize], attn: Attention) -> Case {
    let Attention { n_head, n_kv_head, d_head, .. } = attn;
    Case::new(format!("attention {attn:?} in steps {steps:?}"), steps, |p| {
        let q = p.input(n_head * d_head);
        let k = p.input(n_kv_head * d_head);
        let v = p.input(n_kv_head * d_head);
        let k = p.stored(k, n_kv_head * d_head);
        let v = p.stored(v, n_kv_head * d_head);
        p.g.attention(q, k, v, attn)
    })
}

const PLAIN: Attention =
    Attention { n_head: 1, n_kv_head: 1, d_head: 32, scale: 0.05, causal: true, window: None, softcap: None };

#[test]
fn attention_shares_key_heads_among_groups_of_query_heads() {
    for (n_head, n_kv_head, d_head) in [(1, 1, 1), (3, 1, 31), (9, 3, 64), (8, 8, 33), (4, 2, 96), (16, 2, 256)] {
        let attn = Attention { n_head, n_kv_head, d_head, ..PLAIN };
        for steps in [&[1, 1, 1][..], &[17, 1, 1], &[65, 3], &[3, 17, 1, 65, 1]] {
            parity(&attention_case(steps, attn), tol::ATTENTION);
        }
    }
}

#[test]
fn attention_with_a_window_forgets_what_lies_before_it() {
    for window in [1, 2, 16, 33, 1000] {
        let attn = Attention { n_head: 6, n_kv_head: 2, causal: true, window: Some(window), ..PLAIN };
        parity(&attention_case(&[1, 17, 40, 1, 1], attn), tol::ATTENTION);
    }
}

#[test]
fn attention_caps_its_scores() {
    for window in [None, Some(9)] {
        let attn = Attention { n_head: 4, n_kv_head: 2, softcap: Some(5.0), scale: 1.0, causal: true, window, ..PLAIN };
        parity(&attention_case(&[33, 1, 1], attn), tol::ATTENTION);
    }
}

#[test]
fn attention_survives_scores_that_overflow_an_exponential() {
    let attn = Attention { n_head: 3, n_kv_head: 1, scale: 40.0, ..PLAIN };
    // Scores of tens of thousands: their own rounding is what the weights of near ties show.
    parity(&attention_case(&[17, 1, 1], attn), tol::ATTENTION.times(500.0));
}

#[test]
fn a_position_that_is_stored_again_is_seen_with_its_new_row() {
    let attn = Attention { n_head: 4, n_kv_head: 2, ..PLAIN };
    let case = attention_case(&[9], attn);
    let script = |b: &mut dyn Backend| {
        backends::load(b, &case).expect("loads");
        let mut rows = Vec::new();
        for (range, pos) in [(0..6, 0), (6..9, 2), (1..2, 5)] {
            let s =
                Step { segments: &[Segment::alone(&case.tokens[range.clone()], pos, range.len())], ..Step::trunk(&[]) };
            rows.extend(backends::step(b, &s, case.cols()).expect("runs"));
        }
        rows
    };
    let want = script(&mut Reference::new());
    for c in backends::all() {
        let got = script(&mut *(c.make)());
        tol::ATTENTION.times(c.slack).check(c.name, &got, &want, case.cols());
    }
}
