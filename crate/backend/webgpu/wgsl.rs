//! The text of a shader: constants, the parts of `shaders/lib` that it uses, and the file with its entry point.
//!
//! Sizes are constants of the text and not overrides, because loop counts and array lengths depend on them. The text is
//! plain WGSL without extensions: naga and Tint both take it as it is.

use std::fmt::Write;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../shaders/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "add.wgsl",
    "add_bias.wgsl",
    "attention.wgsl",
    "concat.wgsl",
    "delta_rule.wgsl",
    "embed.wgsl",
    "embed_any.wgsl",
    "gemm.wgsl",
    "gemm_flat.wgsl",
    "gemv.wgsl",
    "glu.wgsl",
    "kv_load.wgsl",
    "kv_store.wgsl",
    "l2_norm.wgsl",
    "last_rows.wgsl",
    "matmul_any.wgsl",
    "moe_matmul.wgsl",
    "moe_matmul_any.wgsl",
    "moe_route.wgsl",
    "moe_sum.wgsl",
    "rms_norm.wgsl",
    "rope.wgsl",
    "sample.wgsl",
    "sigmoid_gate.wgsl",
    "slice.wgsl",
    "softcap.wgsl",
    "ssm_conv.wgsl",
    "lib/act_gelu_tanh.wgsl",
    "lib/act_silu.wgsl",
    "lib/at_bf16.wgsl",
    "lib/at_f16.wgsl",
    "lib/at_f32.wgsl",
    "lib/bytes.wgsl",
    "lib/cap_none.wgsl",
    "lib/cap_tanh.wgsl",
    "lib/codebook4.wgsl",
    "lib/dot.wgsl",
    "lib/fp4.wgsl",
    "lib/grid.wgsl",
    "lib/grid1.wgsl",
    "lib/grid2.wgsl",
    "lib/grid3.wgsl",
    "lib/gumbel.wgsl",
    "lib/half.wgsl",
    "lib/kv.wgsl",
    "lib/math.wgsl",
    "lib/order.wgsl",
    "lib/quant_bf16.wgsl",
    "lib/quant_f16.wgsl",
    "lib/quant_f32.wgsl",
    "lib/quant_iq1_m.wgsl",
    "lib/quant_iq1_s.wgsl",
    "lib/quant_iq2_s.wgsl",
    "lib/quant_iq2_xs.wgsl",
    "lib/quant_iq2_xxs.wgsl",
    "lib/quant_iq3_s.wgsl",
    "lib/quant_iq3_xxs.wgsl",
    "lib/quant_iq4_nl.wgsl",
    "lib/quant_iq4_xs.wgsl",
    "lib/quant_mxfp4.wgsl",
    "lib/quant_nvfp4.wgsl",
    "lib/quant_q1_0.wgsl",
    "lib/quant_q2_k.wgsl",
    "lib/quant_q3_k.wgsl",
    "lib/quant_q4_0.wgsl",
    "lib/quant_q4_1.wgsl",
    "lib/quant_q4_k.wgsl",
    "lib/quant_q5_0.wgsl",
    "lib/quant_q5_1.wgsl",
    "lib/quant_q5_k.wgsl",
    "lib/quant_q6_k.wgsl",
    "lib/quant_q8_0.wgsl",
    "lib/quant_tq1_0.wgsl",
    "lib/quant_tq2_0.wgsl",
    "lib/run.wgsl",
    "lib/scales_k.wgsl",
    "lib/signs.wgsl",
    "lib/step.wgsl",
    "lib/v1.wgsl",
    "lib/v4.wgsl",
    "lib/vector1.wgsl",
    "lib/vector4.wgsl",
];

/// A constant at the head of a shader.
#[derive(Clone, Copy, Debug)]
pub enum Const {
    U(usize),
    F(f32),
    B(bool),
}

/// The shader `name` with these parts of `lib` and these constants.
pub fn assemble(name: &str, libs: &[&str], consts: &[(&str, Const)]) -> String {
    let mut text = String::new();
    for (key, value) in consts {
        let written = match value {
            Const::U(v) => {
                let v = u32::try_from(*v).expect("sizes were checked against the limits of the device");
                writeln!(text, "const {key}: u32 = {v}u;")
            }
            Const::F(v) => {
                assert!(v.is_finite(), "constant {key} of shader {name} is {v}");
                writeln!(text, "const {key}: f32 = {v:?}f;")
            }
            Const::B(v) => writeln!(text, "const {key}: bool = {v};"),
        };
        written.expect("writing to a string does not fail");
    }
    text.push_str(file("lib/step"));
    for lib in libs {
        text.push_str(file(&format!("lib/{lib}")));
    }
    text.push_str(file(name));
    text
}

fn file(name: &str) -> &'static str {
    let found = FILES.iter().find(|(n, _)| n.strip_suffix(".wgsl") == Some(name));
    found.unwrap_or_else(|| panic!("there is no shader file {name}")).1
}
