//! The text of a shader: constants, the parts of `shaders/lib` that it uses, and the file with its entry point.
//!
//! Sizes are constants of the text and not overrides, because loop counts and array lengths depend on them. The text is
//! plain WGSL without extensions: naga and Tint both take it as it is.

use std::fmt::Write;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../shaders/", $name, ".wgsl")))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "add",
    "add_bias",
    "attention",
    "embed",
    "embed_any",
    "gemm",
    "gemv",
    "glu",
    "kv_store",
    "last_rows",
    "matmul_any",
    "rms_norm",
    "rope",
    "softcap",
    "lib/act_gelu_tanh",
    "lib/act_silu",
    "lib/at_bf16",
    "lib/at_f16",
    "lib/at_f32",
    "lib/bytes",
    "lib/cap_none",
    "lib/cap_tanh",
    "lib/codebook4",
    "lib/dot",
    "lib/half",
    "lib/kv",
    "lib/math",
    "lib/quant_bf16",
    "lib/quant_f16",
    "lib/quant_f32",
    "lib/quant_iq4_nl",
    "lib/quant_iq4_xs",
    "lib/quant_q2_k",
    "lib/quant_q3_k",
    "lib/quant_q4_0",
    "lib/quant_q4_1",
    "lib/quant_q4_k",
    "lib/quant_q5_0",
    "lib/quant_q5_1",
    "lib/quant_q5_k",
    "lib/quant_q6_k",
    "lib/quant_q8_0",
    "lib/run",
    "lib/scales_k",
    "lib/step",
    "lib/v1",
    "lib/v4",
    "lib/vector1",
    "lib/vector4",
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
    let found = FILES.iter().find(|(n, _)| *n == name);
    found.unwrap_or_else(|| panic!("there is no shader file {name}")).1
}
