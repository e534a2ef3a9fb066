//! The functions that Rust writes because they depend on the matrices of a kernel, and copies of files, one for
//! each matrix. `shaders/README.md` says which files call them.

use std::fmt::{self, Write};
use std::ops::Range;

use super::files::file;
use super::text::{Const, constant};

/// A matrix of a kernel, as far as the generated functions depend on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Rows of its result.
    pub rows: usize,
    /// The column of y for its first row.
    pub column: usize,
    /// Where its bias starts in the table.
    pub bias: Option<usize>,
}

/// What the matrices of a kernel have in common. A workgroup makes some rows of one segment; where two segments are
/// gate and up, the same rows of both.
#[derive(Clone, Debug)]
pub(crate) struct Segments {
    pub all: Vec<Segment>,
    pub gate_and_up: bool,
    /// The rows of all experts that this part of the matrix has.
    pub experts: Option<Range<usize>>,
}

impl Segments {
    /// `segment(number)`: the segment of workgroup `number` and its number there. Returns how many workgroups there are
    /// too.
    fn segment(&self, rows: usize) -> (String, usize) {
        let mut f = "fn segment(number: u32) -> vec2<u32> {\n".to_string();
        let shown = if self.gate_and_up { 1 } else { self.all.len() };
        let mut all = 0;
        for (i, s) in self.all[..shown].iter().enumerate() {
            let groups = s.rows.div_ceil(rows);
            let test = if i + 1 == shown { String::new() } else { format!("if (number < {}u) ", all + groups) };
            line(&mut f, format_args!("    {test}{{ return vec2<u32>({i}u, number - {all}u); }}"));
            all += groups;
        }
        (f + "}\n", all)
    }

    /// A function of the segment: `signature` has a parameter `segment`.
    fn by_segment(&self, signature: &str, value: impl Fn(&Segment) -> String) -> String {
        let mut f = format!("{signature} {{\n");
        for (i, s) in self.all.iter().enumerate() {
            let test = if i + 1 == self.all.len() { String::new() } else { format!("if (segment == {i}u) ") };
            line(&mut f, format_args!("    {test}{{ return {}; }}", value(s)));
        }
        f + "}\n"
    }

    /// `segment`, `rows_in`, `column`, `bias`, `here` and `any_here` if there are experts, and `store`, for workgroups
    /// of `rows` rows; and how many workgroups there are. `store` is the statement that writes `v` to `y[o]`.
    pub(crate) fn frame(&self, rows: usize, store: &str) -> (String, usize) {
        let (mut text, all) = self.segment(rows);
        text += &self.by_segment("fn rows_in(segment: u32) -> u32", |s| format!("{}u", s.rows));
        text += &self.by_segment("fn column(segment: u32) -> u32", |s| format!("{}u", s.column));
        text += &self.by_segment("fn bias(segment: u32, row: u32) -> f32", |s| match s.bias {
            Some(at) => format!("table[({at}u + row) >> 2u][({at}u + row) & 3u]"),
            None => "0.0".into(),
        });
        if let Some(Range { start, end }) = self.experts {
            line(&mut text, format_args!("fn here(row: u32) -> bool {{ return row >= {start}u && row < {end}u; }}"));
            line(
                &mut text,
                format_args!("fn any_here(row: u32) -> bool {{ return row + {rows}u > {start}u && row < {end}u; }}"),
            );
        }
        text += "fn store(segment: u32, t: u32, row: u32, low: f32, high: f32) {\n";
        text += "    let o = t * Y_COLS + column(segment) + row;\n";
        text += "    let v = low + bias(segment, row);\n";
        line(&mut text, format_args!("    {store}\n}}"));
        (text, all)
    }

    /// `rows_of(segment, first, lane, run0)`: `rows` of the segment's matrix, or `rows_pair`.
    pub(crate) fn rows_of(&self) -> String {
        let f = "fn rows_of(segment: u32, first: u32, lane: u32, run0: u32) -> array<f32, NR * T>";
        self.by_copy(f, "rows_pair(first, lane, run0)", |i| format!("rows_{i}(first, lane, run0)"))
    }

    /// `flat_of(segment, row, t0, n)`: `flat` of the segment's matrix, or `flat_pair`.
    pub(crate) fn flat_of(&self) -> String {
        let f = "fn flat_of(segment: u32, row: u32, t0: u32, n: u32) -> array<vec4<f32>, T>";
        self.by_copy(f, "flat_pair(row, t0, n)", |i| format!("flat_{i}(row, t0, n)"))
    }

    fn by_copy(&self, signature: &str, pair: &str, call: impl Fn(usize) -> String) -> String {
        if self.gate_and_up {
            return format!("{signature} {{\n    return {pair};\n}}\n");
        }
        let mut f = format!("{signature} {{\n");
        for i in 1..self.all.len() {
            line(&mut f, format_args!("    if (segment == {i}u) {{ return {}; }}", call(i)));
        }
        line(&mut f, format_args!("    return {};\n}}", call(0)));
        f
    }

    /// `load_w(segment, row0, i, run)`: the run of row i of a tile of so many rows, by `load_run` of the segment's matrix.
    pub(crate) fn load_w_run(&self, rows: usize) -> String {
        let f = "fn load_w(segment: u32, row0: u32, i: u32, run: u32) -> Run";
        self.by_row(f, rows, |i, row| format!("load_run_{i}(row_base_{i}(row_at_{i}(row0 + {row})), run)"))
    }

    /// The same by `load_ints`.
    pub(crate) fn load_w_ints(&self, rows: usize) -> String {
        let f = "fn load_w(segment: u32, row0: u32, i: u32, run: u32) -> Ints";
        self.by_row(f, rows, |i, row| format!("load_ints_{i}(row_base_{i}(row_at_{i}(row0 + {row})), run)"))
    }

    fn by_row(&self, signature: &str, rows: usize, call: impl Fn(usize, &str) -> String) -> String {
        let mut f = format!("{signature} {{\n");
        if self.gate_and_up {
            let half = rows / 2;
            line(&mut f, format_args!("    if (i >= {half}u) {{ return {}; }}", call(1, &format!("i - {half}u"))));
        } else {
            for s in 1..self.all.len() {
                line(&mut f, format_args!("    if (segment == {s}u) {{ return {}; }}", call(s, "i")));
            }
        }
        line(&mut f, format_args!("    return {};\n}}", call(0, "i")));
        f
    }
}

fn line(text: &mut String, args: fmt::Arguments<'_>) {
    writeln!(text, "{args}").expect("writing to a string does not fail");
}

/// Copies shader files for the several matrices of one shader. Names that are declared in a file which reads the weights
/// `w` get the number of the matrix as a suffix: `load_run` becomes `load_run_0`, `load_run_1`, and so on. Other files
/// are shared.
pub(crate) struct PerMatrixCode {
    shared: String,
    seen: Vec<String>,
    text: String,
}

impl PerMatrixCode {
    pub(crate) fn new(shared: &[&str]) -> Self {
        let mut c = Self { shared: String::new(), seen: Vec::new(), text: String::new() };
        shared.iter().for_each(|lib| c.share(lib));
        c
    }

    fn share(&mut self, lib: &str) {
        if !self.seen.iter().any(|s| s == lib) {
            self.seen.push(lib.to_string());
            self.shared.push_str(file(lib));
        }
    }

    /// Copy `number` of these parts, with constants of its own.
    pub(crate) fn add(&mut self, number: usize, libs: &[&str], consts: &[(&str, Const)]) {
        let mut names: Vec<String> = consts.iter().map(|(key, _)| (*key).to_string()).collect();
        names.push("w".to_string());
        let mut own = String::new();
        for (key, value) in consts {
            constant(&mut own, key, *value);
        }
        for lib in libs {
            let text = file(lib);
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

    pub(crate) fn finish(self) -> String {
        self.shared + &self.text
    }
}

/// Identifiers, and numbers with their suffixes; not the names of members.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let start = |w: &str| w.as_ptr() as usize - text.as_ptr() as usize;
    let all = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty());
    all.filter(move |w| !text[..start(w)].ends_with('.'))
}
