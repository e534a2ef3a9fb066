//! A model that counts: after token t comes t + 1, but after each multiple of 7 comes t + 2. Its block for multi-token
//! prediction knows only the former.

use std::f32::consts::{FRAC_1_SQRT_2, TAU};

use pagelm::DType;
use pagelm::gguf::Gguf;

use super::gguf_writer::GgufWriter;
use super::golden;

/// The token after `t`.
pub fn next(t: u32) -> u32 {
    t + if t.is_multiple_of(7) { 2 } else { 1 }
}

/// The file: that of `qwen35_mtp` with other weights.
///
/// Layers add nothing. Token t is a point on circles, turned t times; row t + 1 of the head is the embedding of t. The
/// block turns what it gets of the hidden state once more and looks at no token: it is right as long as it gets the
/// trunk's row, or its own where the trunk has not been.
pub fn file() -> Vec<u8> {
    let (_, file) = golden::load("qwen35_mtp");
    let gguf = Gguf::parse(&file).unwrap();
    let embd = &gguf.tensor("token_embd.weight").unwrap().dims;
    let (d, vocab) = (embd[0] as usize, embd[1] as usize);
    // Speeds that make points of different tokens nearly orthogonal.
    let angle = |pair: usize, turns: usize| TAU * ((pair * 37 + 1) * turns % vocab) as f32 / vocab as f32;
    let point = |t: usize| (0..d / 2).flat_map(|pair| <[f32; 2]>::from(angle(pair, t).sin_cos())).collect::<Vec<_>>();
    let head = |t: usize| match t % 7 {
        // 7 k + 1 comes after nothing, 7 k + 2 after both before it.
        1 => vec![0.0; d],
        2 => point(t - 1).iter().zip(point(t - 2)).map(|(a, b)| a + b).collect(),
        _ => point((t + vocab - 1) % vocab),
    };
    // [sin, cos] of the sum of two angles, from the second half of the input.
    let turn = |row: usize| {
        let (sin, cos) = angle(row / 2, 1).sin_cos();
        let mut w = vec![0.0; 2 * d];
        let at = d + row / 2 * 2;
        (w[at], w[at + 1]) = if row.is_multiple_of(2) { (cos, sin) } else { (-sin, cos) };
        w
    };
    let f32s = |values: Vec<f32>| values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>();
    let rows = |n: usize, row: &dyn Fn(usize) -> Vec<f32>| f32s((0..n).flat_map(row).collect());
    let mut w = GgufWriter::new();
    for (key, value) in gguf.meta.iter() {
        w = w.kv(key, value.clone());
    }
    for t in &gguf.tensors {
        let bytes = &file[t.offset as usize..(t.offset + t.len) as usize];
        let is = |end: &str| t.name.ends_with(end);
        let zeros = || vec![0; bytes.len()];
        w = match &*t.name {
            "token_embd.weight" => w.tensor(&t.name, DType::F32, &t.dims, &rows(vocab, &point)),
            "blk.4.nextn.eh_proj.weight" => w.tensor(&t.name, DType::F32, &t.dims, &rows(d, &turn)),
            _ if is("attn_output.weight") || is("ssm_out.weight") || is("ffn_down.weight") => {
                w.tensor(&t.name, t.dtype, &t.dims, &zeros())
            }
            "output_norm.weight" | "blk.4.nextn.hnorm.weight" | "blk.4.nextn.shared_head_norm.weight" => {
                w.tensor(&t.name, DType::F32, &t.dims, &f32s(vec![FRAC_1_SQRT_2; d]))
            }
            _ => w.tensor(&t.name, t.dtype, &t.dims, bytes),
        };
    }
    w.tensor("output.weight", DType::F32, embd, &rows(vocab, &head)).finish()
}
