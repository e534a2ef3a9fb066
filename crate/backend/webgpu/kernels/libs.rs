//! The shader parts for a type of weights, for a row length, and for an activation.

use crate::dtype::DType;
use crate::graph::Act;

/// The parts that unpack a run of this type; `None` if it has no kernel.
pub(crate) fn quant_libs(dtype: DType) -> Option<&'static [&'static str]> {
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

/// The types that matrices may have here.
pub(crate) fn quant_types() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|d| quant_libs(*d).is_some())
}

/// Whether blocks of this type are integers with scales, which the int8 kernels multiply.
pub(crate) fn in_ints(dtype: DType) -> bool {
    quant_libs(dtype).is_some_and(|libs| libs.contains(&"ints"))
}

/// The unquantised types.
pub(crate) const VALUE_TYPES: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// The parts that read one value of an unquantised type.
pub(crate) fn value_libs(dtype: DType) -> Option<&'static [&'static str]> {
    Some(match dtype {
        DType::F32 => &["at_f32"],
        DType::F16 => &["half", "at_f16"],
        DType::BF16 => &["at_bf16"],
        _ => return None,
    })
}

/// The element type of a weight buffer that these parts read.
pub(crate) fn element(dtype: DType) -> &'static str {
    if quant(dtype).contains(&"raw") { "u32" } else { "vec4<u32>" }
}

pub(crate) fn quant(dtype: DType) -> Vec<&'static str> {
    quant_libs(dtype).expect("prepare refuses types without a kernel").to_vec()
}

pub(crate) fn value(dtype: DType) -> Vec<&'static str> {
    value_libs(dtype).expect("prepare refuses types without a kernel").to_vec()
}

/// The part for rows of this length, and the length in its vectors.
pub(crate) fn vectors(cols: usize) -> (&'static str, usize) {
    if cols.is_multiple_of(4) { ("v4", cols / 4) } else { ("v1", cols) }
}

pub(crate) fn act_lib(act: Act) -> &'static str {
    match act {
        Act::Silu => "act_silu",
        Act::GeluTanh => "act_gelu_tanh",
        Act::Gelu => "act_gelu",
    }
}
