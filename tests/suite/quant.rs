//! Block formats.

use pagelm::quant::{BlockFormat, FORMATS, decodable, decode, decode_rows, encodable, encode, f16_to_f32};
use pagelm::{DType, ErrorKind};
use serde_json::Value;

use crate::common::fixtures;
use crate::common::rng::Rng;

/// The types that no weight has, which cannot be decoded.
const NO_WEIGHTS: [DType; 5] = [DType::I8, DType::I16, DType::I32, DType::I64, DType::F64];

fn unhex(s: &str) -> Vec<u8> {
    (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).expect("hex")).collect()
}

fn floats(v: &Value) -> Vec<f32> {
    v.as_array().expect("an array").iter().map(|v| v.as_f64().expect("a number") as f32).collect()
}

fn decoded(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![f32::NAN; bytes.len() / dtype.block_bytes() * dtype.block_elems()];
    decode(dtype, bytes, &mut out).expect("a type that can be decoded");
    out
}

#[test]
fn every_format_decodes_the_golden_blocks_to_the_last_bit() {
    let golden = fixtures::json("golden/quants/blocks.json");
    // Newer than the Python package that wrote the others: these are what ggml itself quantised and decoded.
    let newer = fixtures::json("golden/quants/q2_0.json");
    for format in FORMATS.iter().filter(|f| f.dtype != DType::F32) {
        let golden = if format.dtype == DType::Q2_0 { &newer } else { &golden };
        let ty = &golden["types"][format.dtype.name()];
        assert_eq!(ty["ggml_type"], format.dtype.gguf_id());
        for group in ["quantized", "random"] {
            let (blocks, values) = (&ty[group]["bytes_hex"], &ty[group]["values"]);
            for (i, block) in blocks.as_array().expect("blocks").iter().enumerate() {
                let got = decoded(format.dtype, &unhex(block.as_str().expect("hex")));
                let want = floats(&values[i]);
                assert_eq!(got.len(), want.len());
                for (j, (g, w)) in got.iter().zip(&want).enumerate() {
                    assert_eq!(g.to_bits(), w.to_bits(), "{} {group} {i}[{j}]: {g} for {w}", format.dtype);
                }
            }
        }
    }
}

#[test]
fn several_blocks_decode_as_each_alone() {
    let mut rng = Rng::new(1);
    for format in FORMATS {
        let (b, n) = (format.dtype.block_bytes(), format.dtype.block_elems());
        let bytes = rng.bytes(b * 7);
        let mut all = vec![0.0; n * 7];
        format.decode(&bytes, &mut all);
        for i in 0..7 {
            let alone = decoded(format.dtype, &bytes[i * b..(i + 1) * b]);
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&all[i * n..(i + 1) * n]), bits(&alone), "{} block {i}", format.dtype);
        }
    }
}

#[test]
fn chosen_rows_of_a_matrix_are_those_rows() {
    let values: Vec<f32> = (0..5 * 64).map(|i| i as f32).collect();
    let bytes = encode(DType::BF16, &values).unwrap();
    let mut out = vec![0.0; 2 * 64];
    decode_rows(DType::BF16, &bytes, 64, 2..4, &mut out).unwrap();
    assert_eq!(out, decoded(DType::BF16, &bytes)[2 * 64..4 * 64]);
}

#[test]
fn every_type_of_a_weight_stands_in_the_table_once_and_the_others_are_refused() {
    for dtype in DType::ALL {
        let count = FORMATS.iter().filter(|f| f.dtype == *dtype).count();
        assert_eq!(count, usize::from(!NO_WEIGHTS.contains(dtype)), "{dtype}");
        assert_eq!(BlockFormat::of(*dtype).is_some(), decodable(*dtype));
    }
    for dtype in NO_WEIGHTS {
        let e = decode(dtype, &[0; 256], &mut [0.0; 256]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::UnsupportedType);
        assert!(e.to_string().contains(dtype.name()), "{e}");
    }
}

#[test]
#[should_panic(expected = "35 bytes of Q8_0 do not hold exactly 32 values")]
fn a_torn_block_is_our_own_broken_promise() {
    let _ = decode(DType::Q8_0, &[0; 35], &mut [0.0; 32]);
}

#[test]
#[should_panic(expected = "34 bytes of Q8_0 do not hold exactly 31 values")]
fn an_output_of_another_length_is_our_own_broken_promise() {
    let _ = decode(DType::Q8_0, &[0; 34], &mut [0.0; 31]);
}

#[test]
fn every_f16_reads_as_its_plain_twin_says() {
    for bits in 0..=u16::MAX {
        let (got, want) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
        assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{bits:#06x}: {got} for {want}");
    }
}

/// Gaussian-like rows, one with an outlier, one of one sign, one constant, one of zeros.
fn rows() -> Vec<Vec<f32>> {
    let mut rng = Rng::new(7);
    let mut rows: Vec<Vec<f32>> =
        (0..16).map(|_| (0..256).map(|_| (0..6).map(|_| rng.unit() - 0.5).sum()).collect()).collect();
    rows[1][17] = -60.0;
    rows[2].iter_mut().for_each(|v| *v = v.abs());
    rows.push(vec![-0.75; 256]);
    rows.push(vec![0.0; 256]);
    rows
}

#[test]
fn encoding_and_decoding_stays_within_half_a_step() {
    // Half a step, plus what the f16 scale (2^-11 relative) moves the farthest level. Q4_0 has no level at +8 steps, so
    // a value of the sign that lacks it is a whole step off at worst.
    type Bound = fn(&[f32]) -> f32;
    let bounds: [(DType, Bound); 5] = [
        (DType::F16, |x| most(x) / 2048.0 + 3e-8),
        (DType::BF16, |x| most(x) / 256.0),
        (DType::Q8_0, |x| most(x) / 127.0 * (0.5 + 127.0 / 2048.0) + 1e-6),
        (DType::Q4_0, |x| most(x) / 8.0 * (1.0 + 8.0 / 2048.0) + 1e-6),
        (DType::Q4_1, |x| (high(x) - low(x)) / 15.0 * (0.5 + 15.0 / 2048.0) + most(x) / 2048.0 + 1e-6),
    ];
    for (dtype, bound) in bounds {
        assert!(encodable(dtype));
        for row in rows() {
            let back = decoded(dtype, &encode(dtype, &row).unwrap());
            for (x, y) in row.as_chunks::<32>().0.iter().zip(back.as_chunks::<32>().0) {
                let worst = x.iter().zip(y).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
                assert!(worst <= bound(x), "{dtype}: {worst} above {}", bound(x));
            }
        }
    }
}

fn most(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |a, v| a.max(v.abs()))
}

fn high(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::MIN, f32::max)
}

fn low(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::MAX, f32::min)
}

#[test]
fn encoding_refuses_torn_rows_and_types_it_does_not_know() {
    assert_eq!(encode(DType::Q8_0, &[0.0; 33]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(encode(DType::Q4_K, &[0.0; 256]).unwrap_err().kind(), ErrorKind::UnsupportedType);
}

#[test]
fn f32_goes_through_unchanged() {
    let values = [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::INFINITY];
    assert_eq!(decoded(DType::F32, &encode(DType::F32, &values).unwrap()), values);
}

#[test]
fn random_bytes_of_any_format_decode_without_a_panic() {
    let mut rng = Rng::new(99);
    for _ in 0..2000 {
        let len = rng.below(2000);
        crate::common::bodies::quant(&rng.bytes(len));
    }
}

#[test]
fn quantised_files_decode_to_the_reference_values() {
    let golden = fixtures::json("golden/quants/models.json");
    for (name, variant) in golden["variants"].as_object().expect("variants") {
        let file = fixtures::bytes(&format!("golden/quants/{}", variant["gguf"].as_str().expect("a name")));
        let gguf = pagelm::gguf::Gguf::parse(&file).unwrap();
        for (tensor, want) in variant["tensors"].as_object().expect("tensors") {
            let info = gguf.tensor(tensor).expect(tensor);
            assert_eq!(want["type"], info.dtype.name());
            let got = decoded(info.dtype, &file[info.offset as usize..(info.offset + info.len) as usize]);
            let n = got.len();
            let shape = info.dims.iter().rev().copied().collect::<Vec<_>>();
            assert_eq!(want["shape"], serde_json::json!(shape), "{name} {tensor}");
            // The reference keeps eight digits of these.
            close(&got[..8], &floats(&want["first"]), tensor);
            close(&got[n - 8..], &floats(&want["last"]), tensor);
            let mean = got.iter().map(|v| f64::from(v.abs())).sum::<f64>() / n as f64;
            let want = want["abs_mean"].as_f64().expect("a number");
            assert!((mean - want).abs() <= want * 1e-6, "{name} {tensor}: {mean} for {want}");
        }
    }
}

fn close(got: &[f32], want: &[f32], tensor: &str) {
    assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() <= w.abs() * 1e-7), "{tensor}: {got:?} for {want:?}");
}
