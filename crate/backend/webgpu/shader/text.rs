//! Assembles the text of a shader: constants, the files of `shaders/` that it uses, and the file with its entry point.
//!
//! Sizes are constants of the text and not overrides, because loop counts and array lengths depend on them. The text is
//! plain WGSL without extensions: naga and Tint both take it as it is.

use std::fmt::Write;

use super::bindings::Bindings;
use super::files::file;
use crate::backend::MAX_SEGMENTS;

/// A constant at the head of a shader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Const {
    U(usize),
    F(f32),
    B(bool),
}

/// The shader `name` with these parts and these constants.
pub(crate) fn assemble(name: &str, libs: &[&str], consts: &[(&str, Const)]) -> String {
    assemble_with(name, &Bindings::default(), libs, consts, "")
}

/// The same with bindings that the file does not declare, and extra text before it.
pub(crate) fn assemble_with(
    name: &str,
    bindings: &Bindings,
    libs: &[&str],
    consts: &[(&str, Const)],
    own: &str,
) -> String {
    let mut text = String::new();
    constant(&mut text, "MAX_SEGMENTS", Const::U(MAX_SEGMENTS));
    for (key, value) in consts {
        constant(&mut text, key, *value);
    }
    text.push_str(file("step"));
    text.push_str(&bindings.text);
    for lib in libs {
        text.push_str(file(lib));
    }
    text.push_str(own);
    text.push_str(file(name));
    text
}

pub(crate) fn constant(text: &mut String, key: &str, value: Const) {
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
