//! The face of each kernel: its shader with constants, what it binds after the step uniform, and its grid.

mod attention;
mod delta;
mod moe;
mod project;

pub use attention::{Place, attention, attention_join, attention_split, attention_tile, place, split_of};
pub use delta::{DeltaChunks, DeltaRule, delta_prepare, delta_rule, delta_scan, l2_norm, ssm_conv};
pub use moe::{group_bytes, moe_group, moe_matmul_any, moe_route, moe_sum, moe_tiles};
pub use project::{Experts, FEW, Input, Output, Projection, Segment};
pub use project::{WIDE, gemm, gemm_flat, gemm_q8, gemv, matmul_any, quantize_q8};

use super::tuning::Tuning;
use super::wgsl::Const::{B, F, U};
use super::wgsl::{Bindings, Const, assemble, assemble_with};
use crate::dtype::DType;
use crate::graph::{Act, Rope, RopePairs, View};
use project::act_lib;

/// Workgroups in one dimension of a grid, at most.
pub const MAX_GRID: usize = 65535;

/// Threads of the kernels that go value by value; their shaders say so too.
const THREADS: usize = 64;

/// What a kernel does to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    Read,
    Write,
}
use Access::{Read, Write};

/// A shader and how it is started.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub name: &'static str,
    pub source: String,
    pub bind: Vec<Access>,
    /// Workgroups along x and y.
    pub grid: [u32; 2],
    /// Rows of the step that one workgroup takes: the grid along z is `z` times the rows, divided by this.
    pub rows: usize,
    pub z: usize,
}

/// Rows `row0` to `row0 + rows` of a matrix with `total_rows` rows, in a buffer of their own.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    pub dtype: DType,
    pub cols: usize,
    pub row0: usize,
    pub rows: usize,
    pub total_rows: usize,
}

impl Matrix {
    /// Whether rows are whole runs of 32 values, which every quantised row is.
    pub fn in_runs(&self) -> bool {
        self.cols.is_multiple_of(32)
    }

    fn consts(&self) -> Vec<(&'static str, Const)> {
        let row_bytes = self.dtype.row_bytes(self.cols).expect("the reader refuses rows that are no whole blocks");
        vec![
            ("COLS", U(self.cols)),
            ("RUNS", U(self.cols / 32)),
            ("ROW_BYTES", U(row_bytes)),
            ("BLOCKS", U(self.cols / self.dtype.block_elems())),
            ("ROW0", U(self.row0)),
            ("ROWS", U(self.rows)),
            ("Y_COLS", U(self.total_rows)),
        ]
    }
}

/// The parts of `lib` that unpack a run of this type; `None` where there is no kernel for it.
pub fn quant_libs(dtype: DType) -> Option<&'static [&'static str]> {
    Some(match dtype {
        DType::F32 => &["run", "vectors", "quant_f32"],
        DType::F16 => &["run", "vectors", "quant_f16"],
        DType::BF16 => &["run", "vectors", "quant_bf16"],
        DType::Q4_0 => &["run", "half", "planes", "ints", "nibbles", "quant_q4_0", "run_of_unsigned"],
        DType::Q4_1 => &["run", "half", "planes", "ints", "nibbles", "quant_q4_1", "run_of_unsigned"],
        DType::Q5_0 => &["run", "half", "planes", "ints", "nibbles", "quant_q5_0", "run_of_unsigned"],
        DType::Q5_1 => &["run", "half", "planes", "ints", "nibbles", "quant_q5_1", "run_of_unsigned"],
        DType::Q8_0 => &["run", "half", "planes", "ints", "quant_q8_0", "run_of_signed"],
        DType::Q2_K => &["run", "half", "planes", "ints", "quant_q2_k", "run_of_unsigned"],
        DType::Q3_K => &["run", "half", "planes", "ints", "quant_q3_k", "run_of_unsigned"],
        DType::Q4_K => &["run", "half", "vectors", "ints", "nibbles", "scales_k", "quant_q4_k", "run_of_unsigned"],
        DType::Q5_K => &["run", "half", "vectors", "ints", "nibbles", "scales_k", "quant_q5_k", "run_of_unsigned"],
        DType::Q6_K => &["run", "half", "planes", "ints", "quant_q6_k", "run_of_unsigned"],
        DType::IQ4_NL => &["run", "half", "planes", "codebook4", "quant_iq4_nl"],
        DType::IQ4_XS => &["run", "half", "planes", "codebook4", "quant_iq4_xs"],
        DType::IQ1_S => &["run", "half", "raw", "bytes", "grid", "grid1", "quant_iq1_s"],
        DType::IQ1_M => &["run", "half", "raw", "grid", "grid1", "quant_iq1_m"],
        DType::IQ2_XXS => &["run", "half", "raw", "bytes", "grid", "signs", "grid2", "quant_iq2_xxs"],
        DType::IQ2_XS => &["run", "half", "raw", "bytes", "grid", "signs", "grid2", "quant_iq2_xs"],
        DType::IQ2_S => &["run", "half", "raw", "bytes", "grid", "signs", "grid2", "quant_iq2_s"],
        DType::IQ3_XXS => &["run", "half", "raw", "bytes", "grid", "signs", "grid3", "quant_iq3_xxs"],
        DType::IQ3_S => &["run", "half", "raw", "bytes", "grid", "signs", "grid3", "quant_iq3_s"],
        DType::TQ1_0 => &["run", "half", "raw", "bytes", "quant_tq1_0"],
        DType::TQ2_0 => &["run", "half", "raw", "bytes", "quant_tq2_0"],
        DType::Q1_0 => &["run", "half", "raw", "bytes", "quant_q1_0"],
        DType::Q2_0 => &["run", "half", "raw", "bytes", "quant_q2_0"],
        DType::MXFP4 => &["run", "half", "planes", "fp4", "quant_mxfp4"],
        DType::NVFP4 => &["run", "raw", "fp4", "quant_nvfp4"],
        DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::F64 => return None,
    })
}

/// Whether runs of this type are whole numbers with scales for the kernels of 8 bits.
pub fn in_ints(dtype: DType) -> bool {
    quant_libs(dtype).is_some_and(|libs| libs.contains(&"ints"))
}

/// The parts of `lib` that read one value of a type that is not quantised.
pub fn value_libs(dtype: DType) -> Option<&'static [&'static str]> {
    Some(match dtype {
        DType::F32 => &["at_f32"],
        DType::F16 => &["half", "at_f16"],
        DType::BF16 => &["at_bf16"],
        _ => return None,
    })
}

/// The type of the elements of a buffer of weights that these parts read.
fn element(dtype: DType) -> &'static str {
    if quant(dtype).contains(&"raw") { "u32" } else { "vec4<u32>" }
}

fn quant(dtype: DType) -> Vec<&'static str> {
    quant_libs(dtype).expect("prepare refuses types without a kernel").to_vec()
}

fn value(dtype: DType) -> Vec<&'static str> {
    value_libs(dtype).expect("prepare refuses types without a kernel").to_vec()
}

/// The lib for rows of this length, and their length in its vectors.
fn vectors(cols: usize) -> (&'static str, usize) {
    if cols.is_multiple_of(4) { ("v4", cols / 4) } else { ("v1", cols) }
}

/// `n` workgroups, folded into two dimensions where one does not hold them, and the length of the first.
fn fold(n: usize) -> ([u32; 2], usize) {
    let y = n.div_ceil(MAX_GRID).max(1);
    let x = n.div_ceil(y).max(1);
    ([x as u32, y as u32], x)
}

pub fn embed(m: Matrix, scale: f32) -> Kernel {
    let consts = [m.consts(), vec![("SCALE", F(scale))]].concat();
    if !m.in_runs() {
        let source = assemble("embed_any", &value(m.dtype), &consts);
        let grid = [m.cols.div_ceil(THREADS) as u32, 1];
        return Kernel { name: "embed_any", source, bind: vec![Read, Read, Write], grid, rows: 1, z: 1 };
    }
    let mut bindings = Bindings::default();
    bindings.buffer(Read, "ids", "u32");
    bindings.buffer(Read, "w", element(m.dtype));
    bindings.buffer(Write, "y", "vec4<f32>");
    let source = assemble_with("embed", &bindings, &quant(m.dtype), &consts, "");
    let grid = [(m.cols / 32).div_ceil(THREADS) as u32, 1];
    Kernel { name: "embed", source, bind: bindings.access, grid, rows: 1, z: 1 }
}

/// A kernel with a thread for each vector of a row.
fn by_vector(
    name: &'static str,
    cols: usize,
    libs: &[&str],
    consts: &[(&str, Const)],
    bind: &'static [Access],
) -> Kernel {
    let (v, n) = vectors(cols);
    let libs = [&[v], libs].concat();
    let consts = [&[("N", U(n))], consts].concat();
    let grid = [n.div_ceil(THREADS) as u32, 1];
    Kernel { name, source: assemble(name, &libs, &consts), bind: bind.to_vec(), grid, rows: 1, z: 1 }
}

pub fn add_bias(cols: usize, dtype: DType) -> Kernel {
    let mut libs = value(dtype);
    libs.push(if cols.is_multiple_of(4) { "vector4" } else { "vector1" });
    by_vector("add_bias", cols, &libs, &[], &[Read, Read, Write])
}

pub fn add(cols: usize) -> Kernel {
    by_vector("add", cols, &[], &[], &[Read, Read, Write])
}

pub fn glu(cols: usize, act: Act) -> Kernel {
    by_vector("glu", cols, &["math", act_lib(act)], &[], &[Read, Read, Write])
}

pub fn softcap(cols: usize, cap: f32) -> Kernel {
    by_vector("softcap", cols, &["math"], &[("CAP", F(cap))], &[Read, Write])
}

/// A gate of as many columns as x, or of one.
pub fn sigmoid_gate(cols: usize, gate_cols: usize) -> Kernel {
    let (v, n) = if gate_cols == cols { vectors(cols) } else { ("v1", cols) };
    let gates = if gate_cols == cols { n } else { 1 };
    let source = assemble("sigmoid_gate", &[v], &[("N", U(n)), ("GATES", U(gates))]);
    let grid = [n.div_ceil(THREADS) as u32, 1];
    Kernel { name: "sigmoid_gate", source, bind: vec![Read, Read, Write], grid, rows: 1, z: 1 }
}

/// Columns `start .. start + len` of each `group` of x, which has rows of `from` columns.
pub fn slice(from: usize, group: usize, start: usize, len: usize) -> Kernel {
    let whole = [from, group, start, len].iter().all(|n| n.is_multiple_of(4));
    let (v, width) = if whole { ("v4", 4) } else { ("v1", 1) };
    let n = from / group * len / width;
    let consts = [
        ("N", U(n)),
        ("FROM", U(from / width)),
        ("GROUP", U(group / width)),
        ("START", U(start / width)),
        ("LEN", U(len / width)),
    ];
    let grid = [n.div_ceil(THREADS) as u32, 1];
    Kernel { name: "slice", source: assemble("slice", &[v], &consts), bind: vec![Read, Write], grid, rows: 1, z: 1 }
}

pub fn last_rows(cols: usize) -> Kernel {
    by_vector("last_rows", cols, &[], &[], &[Read, Write])
}

pub fn kv_load(cols: usize) -> Kernel {
    by_vector("kv_load", cols, &["kv"], &[], &[Read, Write])
}

/// Rows of `left` columns, each followed by one of `right`.
pub fn concat(left: usize, right: usize) -> Kernel {
    let (v, width) = if (left | right).is_multiple_of(4) { ("v4", 4) } else { ("v1", 1) };
    let n = (left + right) / width;
    let source = assemble("concat", &[v], &[("N", U(n)), ("LEFT", U(left / width))]);
    Kernel {
        name: "concat",
        source,
        bind: vec![Read, Read, Write],
        grid: [n.div_ceil(THREADS) as u32, 1],
        rows: 1,
        z: 1,
    }
}

pub fn kv_store(cols: usize) -> Kernel {
    by_vector("kv_store", cols, &["kv"], &[], &[Read, Write])
}

/// What happens to the result of a norm.
#[derive(Clone, Copy, Debug)]
pub enum Finish {
    None,
    /// It is added to another value.
    Add,
    /// It is multiplied by the activation of one.
    Gate(View, Act),
}

/// `cols` values in runs of `len`; binds x, w, the other value, y.
pub fn rms_norm(cols: usize, len: usize, dtype: DType, eps: f32, finish: Finish, tuning: Tuning) -> Kernel {
    let (v, n) = vectors(len);
    let (width, element) = if v == "v4" { (4, "vec4<f32>") } else { (1, "f32") };
    let mut bindings = Bindings::default();
    bindings.buffer(Read, "x", element);
    bindings.buffer(Read, "w", "u32");
    let mut libs = vec![v];
    libs.extend(value(dtype));
    libs.push(if v == "v4" { "vector4" } else { "vector1" });
    match finish {
        Finish::None => libs.push("finish_none"),
        Finish::Add => {
            bindings.buffer(Read, "to", element);
            libs.push("finish_add");
        }
        Finish::Gate(view, act) => {
            bindings.viewed("gate", view, width);
            libs.extend([act_lib(act), "finish_gate"]);
        }
    }
    bindings.buffer(Write, "y", element);
    let threads = if tuning.software || n <= 256 { 32.min(n.next_power_of_two().max(8)) } else { 128 };
    let threads = if tuning.software { threads } else { threads.max(64) };
    let consts = [("N", U(n)), ("RUNS", U(cols / len)), ("WG", U(threads)), ("EPS", F(eps))];
    let source = assemble_with("rms_norm", &bindings, &libs, &consts, "");
    let grid = [(cols / len) as u32, 1];
    Kernel { name: "rms_norm", source, bind: bindings.access, grid, rows: 1, z: 1 }
}

pub fn rope(cols: usize, r: &Rope) -> Kernel {
    let heads = cols / r.d_head;
    let consts = [
        ("HEADS", U(heads)),
        ("PAIRS", U(r.n_rot / 2)),
        ("REST", U(r.d_head - r.n_rot)),
        ("ADJACENT", B(r.pairs == RopePairs::Adjacent)),
    ];
    let threads = heads * (r.d_head - r.n_rot / 2);
    let grid = [threads.div_ceil(THREADS) as u32, 1];
    Kernel {
        name: "rope",
        source: assemble("rope", &["turn"], &consts),
        bind: vec![Read, Read, Write],
        grid,
        rows: 1,
        z: 1,
    }
}

/// The choice of a token from a row of `n_vocab` logits, by one workgroup of `threads`. Made into a pipeline by
/// [`super::sample::Sampler`].
pub fn sample(n_vocab: usize, threads: usize) -> String {
    assemble("sample", &["order", "gumbel"], &[("VOCAB", U(n_vocab)), ("WG", U(threads))])
}
