//! `pagelm synth`: a file with the shape of a real model and weights without meaning, to measure speed with.

mod encoder;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::ValueEnum;
use pagelm::{DType, Error, ErrorKind, Result};
use serde_json::json;

use self::encoder::Encoder;
use crate::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Whose shape.
    #[arg(long, value_enum)]
    shape: Shape,
    /// The type of the matrices: Q4_K_M (Q4_K with Q6_K where llama.cpp's files have it) or one type for all, such as Q8_0.
    #[arg(long = "type", value_name = "TYPE", default_value = "Q4_K_M")]
    kind: String,
    /// The file to write. It has no tokenizer, and says so: for `bench`, and for llama.cpp's `llama-bench`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Of the part of a model that sees: columns of an embedding of the language model, if not those of the real one.
    #[arg(long, value_name = "N")]
    width: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    #[value(name = "qwen3-0.6b")]
    Qwen3Small,
    #[value(name = "qwen3-1.7b")]
    Qwen3Medium,
    #[value(name = "qwen3-8b")]
    Qwen3Large,
    #[value(name = "qwen3.5-0.8b")]
    Qwen35Small,
    #[value(name = "qwen3.5-4b")]
    Qwen35,
    /// Four layers of Qwen3-30B-A3B, with a fifth of its vocabulary.
    #[value(name = "qwen3-30b-a3b-4l")]
    Qwen3Experts,
    /// One layer of the part of Gemma 3 that sees, for --mmproj; with --type F16 or Q8_0.
    #[value(name = "gemma3-encoder-1l")]
    GemmaEncoder,
    /// Two layers of that of Qwen3-VL 2B.
    #[value(name = "qwen3vl-encoder-2l")]
    QwenEncoder,
}

/// The sizes of a model.
struct Sizes {
    arch: &'static str,
    n_layer: usize,
    d_model: usize,
    d_ff: usize,
    n_head: usize,
    n_kv_head: usize,
    d_head: usize,
    n_vocab: usize,
    tied: bool,
    /// Key heads, value heads and taps of the delta nets of Qwen 3.5, and the width of their heads.
    delta: (usize, usize, usize, usize),
    /// Experts, those of one token, and the width of an expert.
    experts: Option<(usize, usize, usize)>,
}

impl Shape {
    /// The sizes of the part of a model that sees.
    fn encoder(self, width: Option<usize>) -> Option<Encoder> {
        match self {
            Shape::GemmaEncoder => Some(Encoder::gemma3(width)),
            Shape::QwenEncoder => Some(Encoder::qwen3vl(width)),
            _ => None,
        }
    }

    /// Those of a language model.
    fn sizes(self) -> Sizes {
        let qwen3 = |n_layer, d_model, d_ff, n_head, tied| {
            let (arch, n_kv_head, d_head, n_vocab) = ("qwen3", 8, 128, 151_936);
            let delta = (16, 32, 4, 128);
            Sizes { arch, n_layer, d_model, d_ff, n_head, n_kv_head, d_head, n_vocab, tied, delta, experts: None }
        };
        match self {
            Shape::Qwen3Small => qwen3(28, 1024, 3072, 16, true),
            Shape::Qwen3Medium => qwen3(28, 2048, 6144, 16, true),
            Shape::Qwen3Large => qwen3(36, 4096, 12288, 32, false),
            Shape::Qwen35Small => Sizes {
                arch: "qwen35",
                n_kv_head: 2,
                d_head: 256,
                n_vocab: 248_320,
                delta: (16, 16, 4, 128),
                ..qwen3(24, 1024, 3584, 8, true)
            },
            Shape::Qwen3Experts => Sizes {
                arch: "qwen3moe",
                n_kv_head: 4,
                n_vocab: 32_000,
                experts: Some((128, 8, 768)),
                ..qwen3(4, 2048, 6144, 32, true)
            },
            Shape::GemmaEncoder | Shape::QwenEncoder => unreachable!("`encoder` has their sizes"),
            Shape::Qwen35 => {
                Sizes { arch: "qwen35", n_kv_head: 4, d_head: 256, n_vocab: 248_320, ..qwen3(32, 2560, 9216, 16, true) }
            }
        }
    }
}

struct Tensor {
    name: String,
    dtype: DType,
    /// As the file has them: columns first.
    dims: Vec<usize>,
}

impl Tensor {
    /// `None` where a row is no whole blocks.
    fn bytes(&self) -> Option<usize> {
        let rows: usize = self.dims[1..].iter().product();
        self.dtype.row_bytes(self.dims[0]).map(|row| rows * row)
    }
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let wrong = |what: String| Err(Error::new(ErrorKind::InvalidArgument, what));
    let mixed = args.kind == "Q4_K_M";
    let one = DType::ALL.iter().copied().find(|d| d.to_string() == if mixed { "Q4_K" } else { &args.kind });
    let Some(main) = one.filter(|d| scales(*d).is_some()) else {
        return wrong(format!("cannot make weights of type {}; use a type such as Q8_0 or F16", args.kind));
    };
    let (arch, keys, tensors) = if let Some(encoder) = args.shape.encoder(args.width) {
        ("clip", encoder.keys(), encoder.tensors(main))
    } else {
        let sizes = args.shape.sizes();
        let keys = keys(&sizes).into_iter().map(|(key, value)| (format!("{}.{key}", sizes.arch), value));
        (sizes.arch, keys.collect(), tensors(&sizes, main, if mixed { DType::Q6_K } else { main }))
    };
    if let Some(t) = tensors.iter().find(|t| t.bytes().is_none()) {
        let others = if t.dtype == DType::Q8_0 { "F16" } else { "F16 or Q8_0" };
        return wrong(format!("rows of `{}` are no whole blocks of {}; use --type {others}", t.name, t.dtype));
    }
    let bytes = write(args, arch, &keys, &tensors)
        .map_err(|e| Error::new(ErrorKind::Io, e.to_string()).at(args.out.display()))?;
    if !json {
        println!("{}: {} tensors, {bytes} bytes", args.out.display(), tensors.len());
    }
    Ok(Report {
        json: json!({ "file": args.out.display().to_string(), "bytes": bytes, "tensors": tensors.len() }),
        ok: true,
    })
}

/// Every tensor of the model, in the order of the file.
fn tensors(s: &Sizes, main: DType, better: DType) -> Vec<Tensor> {
    let mut all = Vec::new();
    let mut push = |name: String, dtype, rows, cols| {
        let experts = s.experts.filter(|_| name.ends_with("_exps.weight")).map(|(n, ..)| n);
        let dims = [cols, rows].into_iter().take(if rows == 1 { 1 } else { 2 }).chain(experts).collect();
        all.push(Tensor { name, dtype, dims });
    };
    let (d_q, d_kv) = (s.n_head * s.d_head, s.n_kv_head * s.d_head);
    push("token_embd.weight".into(), if s.tied { better } else { main }, s.n_vocab, s.d_model);
    // Qwen 3.5 has a block for multi-token prediction behind its layers.
    let n_nextn = usize::from(s.arch == "qwen35");
    for i in 0..s.n_layer + n_nextn {
        // The layers whose values and second matrices of the feed-forward network get more bits.
        let (n, eighth) = (s.n_layer, s.n_layer / 8);
        let more = i < eighth || i >= 7 * n / 8 || (i - eighth) % 3 == 2;
        let second = if more { better } else { main };
        let name = |part: &str| format!("blk.{i}.{part}");
        push(name("attn_norm.weight"), DType::F32, 1, s.d_model);
        let is_delta = s.arch == "qwen35" && (i + 1) % 4 != 0 && i < n;
        if is_delta {
            let (k, v, taps, d) = s.delta;
            let d_qkv = (2 * k + v) * d;
            push(name("attn_qkv.weight"), main, d_qkv, s.d_model);
            push(name("attn_gate.weight"), main, v * d, s.d_model);
            push(name("ssm_conv1d.weight"), DType::F32, d_qkv, taps);
            push(name("ssm_alpha.weight"), main, v, s.d_model);
            push(name("ssm_beta.weight"), main, v, s.d_model);
            push(name("ssm_a"), DType::F32, 1, v);
            push(name("ssm_dt.bias"), DType::F32, 1, v);
            push(name("ssm_norm.weight"), DType::F32, 1, d);
            push(name("ssm_out.weight"), main, s.d_model, v * d);
        } else {
            push(name("attn_q.weight"), main, if s.arch == "qwen35" { 2 * d_q } else { d_q }, s.d_model);
            push(name("attn_k.weight"), main, d_kv, s.d_model);
            push(name("attn_v.weight"), second, d_kv, s.d_model);
            push(name("attn_q_norm.weight"), DType::F32, 1, s.d_head);
            push(name("attn_k_norm.weight"), DType::F32, 1, s.d_head);
            push(name("attn_output.weight"), main, s.d_model, d_q);
        }
        let norm = if s.arch == "qwen35" { "post_attention_norm.weight" } else { "ffn_norm.weight" };
        push(name(norm), DType::F32, 1, s.d_model);
        let (exps, d_ff) = s.experts.map_or(("", s.d_ff), |(_, _, d_ff)| ("_exps", d_ff));
        if let Some((n_expert, ..)) = s.experts {
            push(name("ffn_gate_inp.weight"), DType::F32, n_expert, s.d_model);
        }
        push(name(&format!("ffn_gate{exps}.weight")), main, d_ff, s.d_model);
        push(name(&format!("ffn_up{exps}.weight")), main, d_ff, s.d_model);
        push(name(&format!("ffn_down{exps}.weight")), second, s.d_model, d_ff);
        if i == n {
            push(name("nextn.eh_proj.weight"), main, s.d_model, 2 * s.d_model);
            for norm in ["enorm", "hnorm", "shared_head_norm"] {
                push(name(&format!("nextn.{norm}.weight")), DType::F32, 1, s.d_model);
            }
        }
    }
    push("output_norm.weight".into(), DType::F32, 1, s.d_model);
    if !s.tied {
        push("output.weight".into(), better, s.n_vocab, s.d_model);
    }
    all
}

/// Where the f16 scales of a block are; `None` where this command knows no block.
fn scales(dtype: DType) -> Option<&'static [usize]> {
    Some(match dtype {
        DType::F32 | DType::F16 => &[],
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        _ => return None,
    })
}

/// Writes the file (version 3) and gives its length.
fn write(args: &Args, arch: &str, keys: &[(String, Key)], tensors: &[Tensor]) -> std::io::Result<u64> {
    const ALIGNMENT: usize = 32;
    let mut head = Vec::new();
    let text = |out: &mut Vec<u8>, s: &str| {
        out.extend((s.len() as u64).to_le_bytes());
        out.extend(s.as_bytes());
    };
    head.extend(b"GGUF");
    head.extend(3u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    let strings = [("general.architecture", arch), ("tokenizer.ggml.model", "none")];
    // Encoders have no tokenizer to miss.
    let strings = if arch == "clip" { &strings[..1] } else { &strings };
    head.extend(((keys.len() + strings.len()) as u64).to_le_bytes());
    for (key, value) in strings {
        text(&mut head, key);
        head.extend(8u32.to_le_bytes());
        text(&mut head, value);
    }
    for (key, value) in keys {
        text(&mut head, key);
        let list = |head: &mut Vec<u8>, kind: u32, len: usize| {
            head.extend([9, kind, len as u32, 0].map(u32::to_le_bytes).concat());
        };
        match value {
            Key::U(v) => head.extend([4u32.to_le_bytes(), (*v as u32).to_le_bytes()].concat()),
            Key::F(v) => head.extend([6u32.to_le_bytes(), v.to_le_bytes()].concat()),
            Key::I(all) => {
                list(&mut head, 5, all.len());
                all.iter().for_each(|v| head.extend(v.to_le_bytes()));
            }
            Key::Fs(all) => {
                list(&mut head, 6, all.len());
                all.iter().for_each(|v| head.extend(v.to_le_bytes()));
            }
            Key::Bs(all) => {
                list(&mut head, 7, all.len());
                head.extend(all.iter().map(|v| u8::from(*v)));
            }
            Key::B(v) => {
                head.extend(7u32.to_le_bytes());
                head.push(u8::from(*v));
            }
            Key::S(v) => {
                head.extend(8u32.to_le_bytes());
                text(&mut head, v);
            }
        }
    }
    let mut offset = 0;
    let bytes = |t: &Tensor| t.bytes().expect("`run` refuses rows that are not whole blocks");
    for t in tensors {
        text(&mut head, &t.name);
        head.extend((t.dims.len() as u32).to_le_bytes());
        t.dims.iter().for_each(|d| head.extend((*d as u64).to_le_bytes()));
        head.extend(t.dtype.gguf_id().to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += bytes(t).next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    let mut out = BufWriter::new(File::create(&args.out)?);
    out.write_all(&head)?;
    let mut rng = 0x9e37_79b9_7f4a_7c15;
    for t in tensors {
        let len = bytes(t);
        let mut left = len;
        while left > 0 {
            let n = left.min(1024 * t.dtype.block_bytes());
            out.write_all(&blocks(t.dtype, n, &mut rng))?;
            left -= n;
        }
        out.write_all(&[0; ALIGNMENT][..len.next_multiple_of(ALIGNMENT) - len])?;
    }
    out.flush()?;
    Ok((head.len() + offset) as u64)
}

enum Key {
    U(usize),
    F(f32),
    B(bool),
    S(&'static str),
    I(&'static [i32]),
    Fs(&'static [f32]),
    Bs(Vec<bool>),
}

fn keys(s: &Sizes) -> Vec<(&'static str, Key)> {
    use Key::{F, I, U};
    let mut all = vec![
        ("block_count", U(s.n_layer)),
        ("context_length", U(32768)),
        ("vocab_size", U(s.n_vocab)),
        ("embedding_length", U(s.d_model)),
        ("feed_forward_length", U(s.d_ff)),
        ("attention.head_count", U(s.n_head)),
        ("attention.head_count_kv", U(s.n_kv_head)),
        ("attention.key_length", U(s.d_head)),
        ("attention.value_length", U(s.d_head)),
        ("attention.layer_norm_rms_epsilon", F(1e-6)),
        ("rope.freq_base", F(1e6)),
    ];
    if let Some((n, used, d_ff)) = s.experts {
        all.extend([("expert_count", U(n)), ("expert_used_count", U(used)), ("expert_feed_forward_length", U(d_ff))]);
    }
    if s.arch == "qwen35" {
        let (k, v, taps, d) = s.delta;
        all[0] = ("block_count", U(s.n_layer + 1));
        all.push(("nextn_predict_layers", U(1)));
        all.extend([("rope.dimension_count", U(s.d_head / 4)), ("full_attention_interval", U(4))]);
        // Of heads of 256, of which a quarter turns: pairs that turn by time, row and column.
        all.push(("rope.dimension_sections", I(&[11, 11, 10, 0])));
        all.extend([("ssm.group_count", U(k)), ("ssm.time_step_rank", U(v)), ("ssm.state_size", U(d))]);
        all.extend([("ssm.inner_size", U(v * d)), ("ssm.conv_kernel", U(taps))]);
    }
    all
}

/// 4e-4 as f16.
const SCALE: u16 = 0x0e8e;

/// Whole blocks of random values that are small enough for every sum to stay finite.
fn blocks(dtype: DType, len: usize, rng: &mut u64) -> Vec<u8> {
    let mut next = || {
        *rng ^= *rng << 13;
        *rng ^= *rng >> 7;
        *rng ^= *rng << 17;
        *rng
    };
    let small = |r: u64| (r % 1000) as f32 * 1e-6 - 5e-4;
    match dtype {
        // Norms near one; negative ones are as good for measuring.
        DType::F32 => (0..len / 4).flat_map(|_| (small(next()) * 100.0 - 1.0).to_le_bytes()).collect(),
        // Any sign and fraction, and exponents from 2^-7 to 2^-4.
        DType::F16 => (0..len / 2)
            .flat_map(|_| {
                let r = next();
                ((r & 0x83ff) as u16 | (8 + (r >> 32 & 3) as u16) << 10).to_le_bytes()
            })
            .collect(),
        _ => {
            let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
            bytes.truncate(len);
            for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
                for &at in scales(dtype).unwrap_or_default() {
                    block[at..at + 2].copy_from_slice(&SCALE.to_le_bytes());
                }
            }
            bytes
        }
    }
}
