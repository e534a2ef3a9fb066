//! The text of a shader: constants, the parts of `shaders/lib` that it uses, and the file with its entry point.
//!
//! Sizes are constants of the text and not overrides, because loop counts and array lengths depend on them. The text is
//! plain WGSL without extensions: naga and Tint both take it as it is.

use std::fmt::Write;

use super::kernels::Access;
use crate::graph::View;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../shaders/", $name)))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "add.wgsl",
    "add_bias.wgsl",
    "attention.wgsl",
    "attention_join.wgsl",
    "attention_split.wgsl",
    "attention_tile.wgsl",
    "concat.wgsl",
    "delta_prepare.wgsl",
    "delta_rule.wgsl",
    "delta_scan.wgsl",
    "embed.wgsl",
    "embed_any.wgsl",
    "gemm.wgsl",
    "gemm_flat.wgsl",
    "gemm_q8.wgsl",
    "gemv.wgsl",
    "glu.wgsl",
    "kv_load.wgsl",
    "kv_store.wgsl",
    "l2_norm.wgsl",
    "last_rows.wgsl",
    "matmul_any.wgsl",
    "moe_group.wgsl",
    "moe_matmul_any.wgsl",
    "moe_route.wgsl",
    "moe_sum.wgsl",
    "place.wgsl",
    "quantize_q8.wgsl",
    "read.wgsl",
    "repack.wgsl",
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
    "lib/attention_partial.wgsl",
    "lib/attention_whole.wgsl",
    "lib/bytes.wgsl",
    "lib/cap_none.wgsl",
    "lib/cap_tanh.wgsl",
    "lib/codebook4.wgsl",
    "lib/delta_gates.wgsl",
    "lib/dot.wgsl",
    "lib/finish_add.wgsl",
    "lib/finish_gate.wgsl",
    "lib/finish_none.wgsl",
    "lib/flat_one.wgsl",
    "lib/flat_pair.wgsl",
    "lib/fp4.wgsl",
    "lib/gate_none.wgsl",
    "lib/gate_sigmoid.wgsl",
    "lib/grid.wgsl",
    "lib/grid1.wgsl",
    "lib/grid2.wgsl",
    "lib/grid3.wgsl",
    "lib/gumbel.wgsl",
    "lib/half.wgsl",
    "lib/ints.wgsl",
    "lib/kv.wgsl",
    "lib/kv_f16.wgsl",
    "lib/kv_f32.wgsl",
    "lib/kv_q8_0.wgsl",
    "lib/math.wgsl",
    "lib/nibbles.wgsl",
    "lib/order.wgsl",
    "lib/planes.wgsl",
    "lib/pre_gated_norm.wgsl",
    "lib/pre_none.wgsl",
    "lib/pre_norm.wgsl",
    "lib/pre_sum_norm.wgsl",
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
    "lib/quant_q2_0.wgsl",
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
    "lib/raw.wgsl",
    "lib/row_expert.wgsl",
    "lib/row_plain.wgsl",
    "lib/rows_one.wgsl",
    "lib/rows_pair.wgsl",
    "lib/run.wgsl",
    "lib/run_of_signed.wgsl",
    "lib/run_of_unsigned.wgsl",
    "lib/scales_k.wgsl",
    "lib/signs.wgsl",
    "lib/squares.wgsl",
    "lib/step.wgsl",
    "lib/store_f16.wgsl",
    "lib/store_f32.wgsl",
    "lib/store_q8_0.wgsl",
    "lib/table_run.wgsl",
    "lib/tile_expert.wgsl",
    "lib/tile_tokens.wgsl",
    "lib/tokens.wgsl",
    "lib/tokens_expert.wgsl",
    "lib/turn.wgsl",
    "lib/v1.wgsl",
    "lib/v4.wgsl",
    "lib/vector1.wgsl",
    "lib/vector4.wgsl",
    "lib/vectors.wgsl",
    "lib/x_run.wgsl",
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
    assemble_with(name, &Bindings::default(), libs, consts, "")
}

/// The same with bindings that the file leaves open, and more text of the caller's before it.
pub fn assemble_with(name: &str, bindings: &Bindings, libs: &[&str], consts: &[(&str, Const)], own: &str) -> String {
    let mut text = String::new();
    for (key, value) in consts {
        constant(&mut text, key, *value);
    }
    text.push_str(file("lib/step"));
    text.push_str(&bindings.text);
    for lib in libs {
        text.push_str(file(&format!("lib/{lib}")));
    }
    text.push_str(own);
    text.push_str(file(name));
    text
}

pub fn constant(text: &mut String, key: &str, value: Const) {
    let written = match value {
        Const::U(v) => {
            let v = u32::try_from(v).expect("sizes were checked against the limits of the device");
            writeln!(text, "const {key}: u32 = {v}u;")
        }
        Const::F(v) => {
            assert!(v.is_finite(), "constant {key} is {v}");
            writeln!(text, "const {key}: f32 = {v:?}f;")
        }
        Const::B(v) => writeln!(text, "const {key}: bool = {v};"),
    };
    written.expect("writing to a string does not fail");
}

/// What a shader binds after the step uniform, in order.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    text: String,
    pub access: Vec<Access>,
}

impl Bindings {
    /// A buffer of elements of a WGSL type.
    pub fn buffer(&mut self, access: Access, name: &str, element: &str) {
        self.access.push(access);
        let mode = if access == Access::Read { "read" } else { "read_write" };
        let n = self.access.len();
        writeln!(self.text, "@group(0) @binding({n}) var<storage, {mode}> {name}: array<{element}>;")
            .expect("writing to a string does not fail");
    }

    /// Gives the last buffer another name.
    pub fn rename(&mut self, old: &str, new: &str) {
        self.text = self.text.replace(&format!(" {old}: array"), &format!(" {new}: array"));
    }

    /// `name_at(t, i)`: element i of row t of a value, `width` numbers, out of the buffer `from` of single numbers or
    /// (where `vectors`) of `width` numbers each.
    pub fn view(&mut self, name: &str, from: &str, v: View, width: usize, vectors: bool) {
        let unit = if vectors { width } else { 1 };
        let (stride, at, group, len) = (v.stride / unit, v.at / unit, v.group / unit, v.len / width);
        let ty = if width == 1 { "f32" } else { "vec4<f32>" };
        let i = match (v.group == v.len, width == unit) {
            (true, true) => "i".to_string(),
            (true, false) => format!("i * {width}u"),
            (false, same) => {
                let inner = if same { 1 } else { width };
                format!("i / {len}u * {group}u + i % {len}u * {inner}u")
            }
        };
        let read = if width == unit {
            format!("{from}[o]")
        } else {
            format!("vec4<f32>({from}[o], {from}[o + 1u], {from}[o + 2u], {from}[o + 3u])")
        };
        let text = format!(
            "fn {name}_at(t: u32, i: u32) -> {ty} {{\n    let o = t * {stride}u + {at}u + {i};\n    return {read};\n}}\n"
        );
        self.text.push_str(&text);
    }

    /// A buffer of its own for a view of `width` numbers.
    pub fn viewed(&mut self, name: &str, v: View, width: usize) {
        let vectors = [v.stride, v.at, v.group, v.len].iter().all(|n| n.is_multiple_of(width));
        self.buffer(Access::Read, name, if vectors && width == 4 { "vec4<f32>" } else { "f32" });
        self.view(name, name, v, width, vectors);
    }
}

/// Copies of parts of `lib` for several matrices in one shader: whatever touches the weights `w`, or is declared beside
/// what does, gets a name of its own in each copy. The other parts are shared.
pub struct Copies {
    shared: String,
    seen: Vec<String>,
    text: String,
}

impl Copies {
    pub fn new(shared: &[&str]) -> Self {
        let mut c = Self { shared: String::new(), seen: Vec::new(), text: String::new() };
        shared.iter().for_each(|lib| c.share(lib));
        c
    }

    fn share(&mut self, lib: &str) {
        if !self.seen.iter().any(|s| s == lib) {
            self.seen.push(lib.to_string());
            self.shared.push_str(file(&format!("lib/{lib}")));
        }
    }

    /// Copy `number` of these parts, with constants of its own.
    pub fn add(&mut self, number: usize, libs: &[&str], consts: &[(&str, Const)]) {
        let mut names: Vec<String> = consts.iter().map(|(key, _)| (*key).to_string()).collect();
        names.push("w".to_string());
        let mut own = String::new();
        for (key, value) in consts {
            constant(&mut own, key, *value);
        }
        for lib in libs {
            let text = file(&format!("lib/{lib}"));
            if !words(text).any(|w| names.iter().any(|n| n == w)) {
                self.share(lib);
                continue;
            }
            let code = text.lines().map(|l| l.split("//").next().unwrap_or(""));
            for line in code {
                let mut words = words(line);
                if let (Some("fn" | "const" | "struct" | "alias"), Some(name)) = (words.next(), words.next()) {
                    names.push(name.to_string());
                }
            }
            own.push_str(text);
        }
        let mut at = 0;
        for word in words(&own) {
            let start = word.as_ptr() as usize - own.as_ptr() as usize;
            let end = start + word.len();
            self.text.push_str(&own[at..end]);
            if names.iter().any(|n| n == word) {
                write!(self.text, "_{number}").expect("writing to a string does not fail");
            }
            at = end;
        }
        self.text.push_str(&own[at..]);
    }

    pub fn finish(self) -> String {
        self.shared + &self.text
    }
}

/// Identifiers, and numbers with their suffixes; not the names of members.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let start = |w: &str| w.as_ptr() as usize - text.as_ptr() as usize;
    let all = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty());
    all.filter(move |w| !text[..start(w)].ends_with('.'))
}

pub fn file(name: &str) -> &'static str {
    let found = FILES.iter().find(|(n, _)| n.strip_suffix(".wgsl") == Some(name));
    found.unwrap_or_else(|| panic!("there is no shader file {name}")).1
}
