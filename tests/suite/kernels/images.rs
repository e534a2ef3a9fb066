//! What models that see need: rows that a step gives, norms with a mean, coordinates in an image, groups of rows.

use pagelm::DType;
use pagelm::backend::reference::Reference;
use pagelm::backend::{Backend, Place, Segment, Step};
use pagelm::graph::{Act, Rope, RopeAxes, RopePairs};

use super::{sizes, wide};
use crate::common::backends::{self, parity};
use crate::common::cases::Case;
use crate::common::rng::Rng;
use crate::common::tol::{self, Tol};

/// Runs one step of a case that gives a row for each token, with so many outputs, and compares with the reference.
fn parity_of_given(case: &Case, place: Place, outputs: usize, tol: Tol) {
    let columns = case.plan.graph.given_columns();
    let given = Rng::named(&case.name).values(case.tokens.len() * columns);
    let segment = Segment { place, ..Segment::alone(&case.tokens, case.start, outputs) };
    let step = Step { segments: &[segment], given: &given, ..Step::trunk(&[]) };
    let run = |b: &mut dyn Backend| backends::load(b, case).and_then(|()| backends::step(b, &step, case.cols()));
    let want = run(&mut Reference::new()).unwrap_or_else(|e| panic!("{} on the reference: {e}", case.name));
    for c in backends::all() {
        let got = run(&mut *(c.make)()).unwrap_or_else(|e| panic!("{} on {}: {e}", case.name, c.name));
        tol.times(c.slack).check(&format!("{} on {}", case.name, c.name), &got, &want, case.cols());
    }
}

#[test]
fn given_takes_columns_of_the_rows_of_a_step() {
    for (rows, cols) in sizes() {
        for start in [0, 4, 7] {
            let case = Case::new(format!("given [{rows}, {cols}] from {start}"), &[rows], |p| {
                let all = p.g.given(0, 3);
                let some = p.g.given(start, cols);
                p.g.concat(some, all)
            });
            parity_of_given(&case, Place::default(), rows, tol::COPY);
        }
    }
}

#[test]
fn a_step_must_give_the_rows_that_its_part_reads() {
    let case = Case::new("given", &[3], |p| p.g.given(0, 4));
    let grouped = Case::of_outputs("group", &[6], |p| {
        let x = p.g.given(0, 4);
        p.g.group(x, 2)
    });
    for c in backends::all() {
        for (case, n, outputs) in [(&case, 11, 3), (&grouped, 24, 2)] {
            let mut b = (c.make)();
            backends::load(&mut *b, case).unwrap();
            let segments = [Segment::alone(&case.tokens, 0, outputs)];
            let step = Step { segments: &segments, given: &vec![0.0; n], ..Step::trunk(&[]) };
            let e = b.submit(&step).expect_err(c.name);
            assert_eq!(e.code(), "invalid-argument", "{}: {e}", c.name);
        }
    }
}

#[test]
fn group_puts_rows_side_by_side() {
    for (n, groups, cols) in [(1, 3, 33), (4, 9, 32), (4, 1, 31), (9, 5, 4)] {
        let case = Case::of_outputs(format!("group {n} of {cols}"), &[n * groups], |p| {
            let x = p.g.given(0, cols);
            p.g.group(x, n)
        });
        parity_of_given(&case, Place::default(), groups, tol::COPY);
    }
}

#[test]
fn layer_norm_takes_the_mean_away_and_normalises_each_row() {
    for (rows, cols) in sizes() {
        let case = Case::new(format!("layer_norm [{rows}, {cols}]"), &[rows], |p| {
            let x = p.input(cols);
            let (w, b) = (p.weight(DType::F32, 1, cols), p.weight(DType::F32, 1, cols));
            p.g.layer_norm(x, w, b, 1e-5)
        });
        parity(&case, tol::ELEMENT.times(4.0)); // the mean of up to 1757 values, and that of squares around it
    }
}

#[test]
fn layer_norm_of_values_far_from_zero_keeps_their_differences() {
    let case = Case::new("layer_norm far from zero", &[3], |p| {
        let values: Vec<f32> = (0..p.vocab * 96).map(|i| 100.0 + (i % 7) as f32).collect();
        let x = p.input_of(&values);
        let (w, b) = (p.weight(DType::F32, 1, 96), p.weight(DType::F32, 1, 96));
        p.g.layer_norm(x, w, b, 1e-6)
    });
    parity(&case, tol::ELEMENT.times(20.0)); // a mean of 100 in f32 is off by 8e-6 of differences of 2
}

#[test]
fn activate_stays_finite_and_exact_for_huge_values() {
    for act in [Act::Silu, Act::GeluTanh, Act::Gelu] {
        for (rows, cols) in sizes() {
            let case = Case::new(format!("activate {act:?} [{rows}, {cols}]"), &[rows], |p| {
                let x = wide(p, cols);
                let x = p.input_of(&x);
                p.g.activate(x, act)
            });
            parity(&case, tol::CURVE);
        }
    }
}

#[test]
fn blend_adds_rows_by_their_shares() {
    for (dtype, cols) in [(DType::F32, 31), (DType::F32, 96), (DType::F16, 64), (DType::BF16, 33)] {
        for n in [1, 4] {
            let case = Case::new(format!("blend {n} of {dtype} {cols}"), &[17, 1], |p| {
                let mut table = Vec::new();
                for _ in 0..p.vocab {
                    table.extend((0..n).map(|_| p.rng.below(36) as f32));
                    table.extend((0..n).map(|_| p.rng.range(0.0, 1.0)));
                }
                let x = p.input_of(&table);
                let w = p.weight(dtype, 36, cols);
                p.g.blend(w, x)
            });
            parity(&case, tol::ELEMENT);
        }
    }
}

#[test]
fn blend_of_all_rows_multiplies_by_a_matrix_that_lies_the_other_way() {
    let plain = [(DType::F32, 31), (DType::F32, 96), (DType::F16, 64), (DType::BF16, 33)];
    // Of those that are repacked for GPUs, read as vectors, and read as words.
    let packed = [DType::Q8_0, DType::Q4_0, DType::Q5_1, DType::Q4_K, DType::Q6_K, DType::IQ4_XS, DType::IQ2_S];
    let packed = packed.map(|dtype| (dtype, 3 * dtype.block_elems()));
    for (dtype, cols) in plain.into_iter().chain(packed) {
        for rows in [1, 37, 130] {
            let case = Case::new(format!("blend all {rows} of {dtype} {cols}"), &[17, 1], |p| {
                let x = p.input(rows);
                let w = p.weight(dtype, rows, cols);
                p.g.blend_all(w, x)
            });
            parity(&case, tol::ELEMENT.times(4.0)); // sums of up to 130 products
        }
    }
}

const HALVES: Rope =
    Rope { d_head: 16, n_rot: 16, pairs: RopePairs::Halves, axes: RopeAxes::Time, base: 1e4, scale: 1.0, freqs: None };

/// Places of text and of images, before and after other images.
const PLACES: [Place; 4] = [
    Place { behind: 0, start: 0, width: 0 },
    Place { behind: 13, start: 0, width: 0 },
    Place { behind: 0, start: 20, width: 4 },
    Place { behind: 7, start: 11, width: 6 },
];

#[test]
fn rope_turns_by_time_row_and_column() {
    let axes = [
        RopeAxes::Interleaved { rows: 3, columns: 2 },
        RopeAxes::Interleaved { rows: 1, columns: 3 },
        RopeAxes::Grid { square: 2 },
        RopeAxes::Grid { square: 1 },
    ];
    for (axes, place) in axes.into_iter().flat_map(|a| PLACES.map(|p| (a, p))) {
        let case = Case::new(format!("rope {axes:?} at {place:?}"), &[24], |p| {
            let x = p.g.given(0, 48);
            p.g.rope(x, Rope { axes, ..HALVES })
        });
        parity_of_given(&case.starting_at(20), place, 24, tol::ANGLE);
    }
}

#[test]
fn rope_of_text_is_the_same_with_coordinates_as_with_positions() {
    let rotated = |axes| {
        let case = Case::new("rope of text", &[24], |p| {
            let x = p.input(48);
            p.g.rope(x, Rope { axes, ..HALVES })
        });
        backends::run(&mut Reference::new(), &case.starting_at(5)).unwrap()
    };
    assert_eq!(rotated(RopeAxes::Interleaved { rows: 3, columns: 2 }), rotated(RopeAxes::Time));
}

#[test]
fn segments_of_a_step_have_coordinates_of_their_own() {
    let case = Case::new("rope of two segments", &[24], |p| {
        let x = p.input(48);
        p.g.rope(x, Rope { axes: RopeAxes::Interleaved { rows: 3, columns: 2 }, ..HALVES })
    });
    let case = case.starting_at(20);
    let at = |tokens: std::ops::Range<usize>, place| Segment {
        place,
        ..Segment::alone(&case.tokens[tokens.clone()], 20, tokens.len())
    };
    let segments = [at(0..9, PLACES[1]), at(9..10, PLACES[3]), at(10..24, PLACES[2])];
    let run = |b: &mut dyn Backend| {
        backends::load(b, &case).unwrap();
        backends::step(b, &Step::trunk(&segments), case.cols()).unwrap()
    };
    let want = run(&mut Reference::new());
    for c in backends::all() {
        tol::ANGLE.check(c.name, &run(&mut *(c.make)()), &want, case.cols());
    }
}
