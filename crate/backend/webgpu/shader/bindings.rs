//! The bindings of a shader, and functions that read a value inside a wider buffer.

use std::fmt::Write;

use crate::backend::webgpu::dispatch::Access;
use crate::graph::View;

/// The bindings of a shader after the step uniform, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    pub text: String,
    pub access: Vec<Access>,
}

impl Bindings {
    /// Adds a buffer of elements of a WGSL type.
    pub(crate) fn buffer(&mut self, access: Access, name: &str, element: &str) {
        self.access.push(access);
        let mode = if access == Access::Read { "read" } else { "read_write" };
        let n = self.access.len();
        writeln!(self.text, "@group(0) @binding({n}) var<storage, {mode}> {name}: array<{element}>;")
            .expect("writing to a string does not fail");
    }

    /// Renames the last buffer.
    pub(crate) fn rename(&mut self, old: &str, new: &str) {
        self.text = self.text.replace(&format!(" {old}: array"), &format!(" {new}: array"));
    }

    /// Adds a function `(t, i)` of this name: element i (of `width` numbers) of row t of a value. It reads the buffer
    /// `from`, whose elements are single numbers or, where `vectors`, `width` numbers each.
    pub(crate) fn view(&mut self, function: &str, from: &str, v: View, width: usize, vectors: bool) {
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
            "fn {function}(t: u32, i: u32) -> {ty} {{\n    let o = t * {stride}u + {at}u + {i};\n    return {read};\n}}\n"
        );
        self.text.push_str(&text);
    }

    /// Adds a buffer for a view whose elements are `width` numbers, and the function that reads it.
    pub(crate) fn viewed(&mut self, name: &str, function: &str, v: View, width: usize) {
        let vectors = [v.stride, v.at, v.group, v.len].iter().all(|n| n.is_multiple_of(width));
        self.buffer(Access::Read, name, if vectors && width == 4 { "vec4<f32>" } else { "f32" });
        self.view(function, name, v, width, vectors);
    }
}
