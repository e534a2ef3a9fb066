//! What the fuzz targets and the suite's mutation tests run: any bytes must give an error or a sound result.

use pagelm::gguf::{Gguf, Progress, Reader};
use pagelm::quant::FORMATS;
use pagelm::text::template::parse_json;
use pagelm::text::{ChatTemplate, RenderOptions};
use pagelm::{Error, ErrorKind};

/// Reads `data` as a GGUF file, whole and in pieces: both must say the same, and a header that is accepted must be sound.
pub fn gguf(data: &[u8]) -> Result<Gguf, Error> {
    let whole = Gguf::parse(data);
    // The last byte chooses the size of the pieces: 1 to 7 bytes, or a larger one.
    let size = match data.last().copied().unwrap_or(0) {
        b @ 0..128 => usize::from(b % 7) + 1,
        b => usize::from(b),
    };
    match (&whole, in_pieces(data, size)) {
        (Ok(a), Ok(b)) => {
            // Equal as text where it holds a NaN, which is not equal to itself.
            assert!(*a == b || format!("{a:?}") == format!("{b:?}"), "the header depends on the pieces");
            assert_sound(a, data.len() as u64);
        }
        (Err(a), Err(b)) => assert_eq!(*a, b, "the error depends on the pieces"),
        (a, b) => panic!("whole: {:?}, in pieces: {:?}", a.as_ref().err(), b.err()),
    }
    whole
}

/// Pushes `data` in pieces of `size` bytes.
pub fn in_pieces(data: &[u8], size: usize) -> Result<Gguf, Error> {
    let mut reader = Reader::new(Some(data.len() as u64));
    // An empty file has no pieces: it is the first, empty push that finds out.
    for piece in std::iter::once(&[][..]).chain(data.chunks(size)) {
        if let Progress::Done(gguf) = reader.push(piece)? {
            assert_eq!(reader.buffered(), 0);
            assert!(reader.consumed() <= gguf.data_offset);
            let after = reader.push(&[]).expect_err("a reader that is done takes no more");
            assert_eq!(after.kind(), ErrorKind::InvalidState);
            return Ok(*gguf);
        }
    }
    Err(reader.truncated())
}

fn assert_sound(gguf: &Gguf, file_len: u64) {
    assert!(gguf.alignment.is_power_of_two() && gguf.data_offset.is_multiple_of(gguf.alignment));
    for t in &gguf.tensors {
        assert!(t.offset >= gguf.data_offset && t.offset.is_multiple_of(gguf.alignment));
        assert!(t.offset + t.len <= file_len);
        assert_eq!(t.dtype.row_bytes(t.cols()).map(|row| (row * t.rows()) as u64), Some(t.len));
    }
}

/// Decodes `data` in the format that its first byte chooses.
pub fn quant(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let format = &FORMATS[usize::from(*first) % FORMATS.len()];
    let blocks = rest.len() / format.dtype.block_bytes();
    let mut out = vec![0.0; blocks * format.dtype.block_elems()];
    format.decode(&rest[..blocks * format.dtype.block_bytes()], &mut out);
}

/// Renders a template that `data` chooses from a grammar in which everything can be chained and nested.
pub fn template(data: &[u8]) -> Result<String, Error> {
    let source = Grower { data }.template();
    let messages = parse_json(r#"[{"role": "user", "content": "a b"}, {"role": "x", "content": [{"a": 1}]}]"#)?;
    let options = RenderOptions { add_generation_prompt: true, ..Default::default() };
    ChatTemplate::new(&source)?.render(&messages, &options)
}

/// The source of what [`template`] renders.
pub fn template_source(data: &[u8]) -> String {
    Grower { data }.template()
}

const ATOMS: &[&str] = &[
    "x",
    "1",
    "0",
    "'a b'",
    "\"\\n\"",
    "1.5",
    "true",
    "none",
    "messages",
    "messages[0].content",
    "ns",
    "ns.a",
    "loop",
    "loop.nextitem",
    "f",
    "r",
    "cycler(ns, 1)",
    "joiner(ns.a)",
    "range(3)",
    "[]",
    "{}",
    "namespace(a=ns.a)",
    "dict(a=1)",
    "caller()",
    "self.b()",
    "super()",
    "100000000",
    "2e300",
    "170141183460469231731687303715884105727",
    "'%s {} {0:>9}'",
    "undefined",
    "loop.cycle()",
    "varargs",
    "{'a': 1, 2: [3]}",
    "(1,)",
    "add_generation_prompt",
    "'é😀'",
    "-1",
    "9 ** 30",
];
const PREFIXES: &[&str] = &["-", "+", "not ", "- ", "+ ", "-+"];
const INFIXES: &[&str] = &[
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "~",
    " and ",
    " or ",
    "==",
    "!=",
    "<",
    ">=",
    " in ",
    " not in ",
    " if 1 else ",
    " if ",
    " else ",
    " is eq ",
    "*-",
    "~ +",
];
const SUFFIXES: &[&str] = &[
    ".a",
    "[0]",
    "[::-1]",
    "[1:]",
    "|d",
    "|list",
    "()",
    "()()",
    " is defined",
    " is not none",
    ".items()",
    ".values()",
    "|first",
    "|last",
    "|tojson",
    "|string",
    "|length",
    "|reverse",
    "|sort",
    "|unique",
    "|sum",
    "|upper",
    "|items",
    ".split()",
    "|int",
    "|float",
    "|trim",
    "|dictsort",
    "|title",
    "|capitalize",
    "|max",
    "|e",
    "|safe",
    ".0",
    "|indent",
    ".strip()",
    ".next()",
    ".keys()",
    "|abs",
    "|round",
    "|urlencode",
    "|wordcount",
    ".splitlines(true)",
    ".title()",
];
const PAIRS: &[(&str, &str)] = &[
    ("(", ")"),
    ("[", "]"),
    ("(", ",)"),
    ("{1:", "}"),
    ("{", ":1}"),
    ("f(", ")"),
    ("f(a=", ")"),
    ("f(*", ")"),
    ("f(**", ")"),
    ("x[", "]"),
    ("x[:", "]"),
    ("x|d(", ")"),
    ("-(", ")"),
    ("not (", ")"),
    ("[1,", ",2]"),
    ("namespace(a=", ")"),
    ("cycler(", ")"),
    ("joiner(", ")"),
    ("range(", ")"),
    ("loop.changed(", ")"),
    ("loop.cycle(", ")"),
    ("dict(a=", ")"),
    ("x is eq(", ")"),
    ("(1 if ", " else 2)"),
    ("[x]|map('", "')"),
    ("[x]|map(attribute=", ")"),
    ("loop(", ")"),
    ("'a'|replace('a', ", ")"),
    ("x|batch(", ")"),
    ("'a'|indent(", ")"),
    ("x|slice(", ")"),
    ("x|round(", ")"),
    ("'a b'.split(", ")"),
    ("'a b'.rsplit(' ', ", ")"),
    ("'a'.center(", ")"),
    ("'a'.find('a', ", ")"),
    ("x.get(", ")"),
    ("'{}'.format(", ")"),
    ("'%s'|format(", ")"),
    ("x|join(", ")"),
    ("x|groupby(", ")"),
    ("x|selectattr(", ")"),
    ("x|tojson(indent=", ")"),
    ("'a'|truncate(", ")"),
    ("x|sort(attribute=", ")"),
    ("[x]|select('", "')|list"),
    ("x|sum(start=", ")"),
    ("'a' * (", ")"),
    ("[1] * (", ")"),
    ("(1,) * (", ")"),
    ("x|attr(", ")"),
    ("'a'.replace('', ", ")"),
];
/// With `{}` where an expression stands.
const BLOCKS: &[(&str, &str)] = &[
    ("{% if {} %}", "{% endif %}"),
    ("{% if 0 %}{% elif {} %}", "{% endif %}"),
    ("{% if 0 %}{% else %}", "{% endif %}"),
    ("{% for x in {} %}", "{% endfor %}"),
    ("{% for x in [1, 2] %}", "{% endfor %}"),
    ("{% for x in [] %}{% else %}", "{% endfor %}"),
    ("{% for x in [[1]] recursive %}{{ loop({}) }}", "{% endfor %}"),
    ("{% for x in [1] if {} %}", "{% endfor %}"),
    ("{% for a, (b, c) in {} %}", "{% endfor %}"),
    ("{% macro f(a=1, b=2) %}", "{% endmacro %}"),
    ("{% macro g() %}{{ f({}) }}", "{% endmacro %}{{ g() }}"),
    ("{% call f({}) %}", "{% endcall %}"),
    ("{% call(a) f() %}", "{% endcall %}"),
    ("{% filter upper|d({}) %}", "{% endfilter %}"),
    ("{% set x %}", "{% endset %}"),
    ("{% set x | d({}) %}", "{% endset %}"),
    ("{% with x = {} %}", "{% endwith %}"),
    ("{% with %}", "{% endwith %}"),
    ("{% autoescape {} %}", "{% endautoescape %}"),
    ("{% block b %}", "{% endblock %}"),
    ("{% for x in [1, 2] %}{% with %}{% if {} %}{% break %}{% endif %}", "{% endwith %}{% endfor %}"),
    ("{% for x in [1, 2] %}{% set x %}{% continue %}", "{% endset %}{% endfor %}"),
    (
        "{% for x in [1, 2] %}{% filter upper %}{% autoescape true %}{% break %}",
        "{% endautoescape %}{% endfilter %}{% endfor %}",
    ),
    ("{% generation %}", "{% endgeneration %}"),
    ("{% raw %}", "{% endraw %}"),
    ("{% for i in range(9) %}", "{% endfor %}"),
];
const LINES: &[&str] = &[
    "{{ {} }}",
    "{% set x = {} %}",
    "{% set ns.a = {} %}",
    "{% set ns = namespace(a={}) %}",
    "{% do f({}) %}",
    "text\n",
    "{# c #}",
    "{% set x, y = {} %}",
    "{% set ns.a.a.a = {} %}",
    "{% include {} %}",
    "{% set ns.a.a = ns %}",
    "{% set ns.a = loop %}",
    "{% extends {} %}",
    "{{ f({}) }}",
];

/// Where growing ends, so that a template takes less than a millisecond.
const MAX_GROWN: usize = 12_000;

struct Grower<'d> {
    data: &'d [u8],
}

impl Grower<'_> {
    fn byte(&mut self) -> usize {
        let (first, rest) = self.data.split_first().unwrap_or((&0, &[]));
        self.data = rest;
        usize::from(*first)
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.byte() % list.len()]
    }

    /// How often something of a length is repeated: mostly a few times, seldom very often.
    fn count(&mut self, len: usize) -> usize {
        let count = match self.byte() {
            b @ 0..160 => b % 3 + 1,
            b @ 160..230 => b % 12 + 4,
            b @ 230..250 => b * 2 - 440,
            b => (b - 249) * 2000,
        };
        count.min(MAX_GROWN / len.max(1)).max(1)
    }

    fn template(&mut self) -> String {
        let start =
            "{% set ns = namespace(a=1) %}{% set x = messages %}{% macro f(a) %}{{ a }}{{ caller }}{% endmacro %}";
        let mut out = start.to_owned();
        while !self.data.is_empty() && out.len() < MAX_GROWN {
            out += &self.block(3);
        }
        out
    }

    fn block(&mut self, depth: usize) -> String {
        if depth == 0 || self.byte().is_multiple_of(2) {
            let line = self.pick(LINES);
            return self.fill(line);
        }
        let (start, end) = self.pick(BLOCKS);
        let inner: String = (0..self.byte() % 3 + 1).map(|_| self.block(depth - 1)).collect();
        let start = self.fill(start);
        if self.byte().is_multiple_of(4) {
            let whole = start + &inner + end;
            return whole.repeat(self.count(whole.len()));
        }
        let times = self.count(start.len());
        start.repeat(times) + &inner + &end.repeat(times)
    }

    fn fill(&mut self, line: &str) -> String {
        if line.contains("{}") { line.replacen("{}", &self.expression(3), 1) } else { line.to_owned() }
    }

    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(ATOMS).to_owned();
        }
        let kind = self.byte() % 5;
        let inner = self.expression(depth - 1);
        match kind {
            0 => inner,
            1 => self.pick(PREFIXES).repeat(self.count(2)) + &inner,
            2 => {
                let link = self.pick(SUFFIXES);
                inner + &link.repeat(self.count(link.len()))
            }
            3 => {
                let link = self.pick(INFIXES).to_owned() + &self.expression(depth - 1);
                inner + &link.repeat(self.count(link.len()))
            }
            _ => {
                let (start, end) = self.pick(PAIRS);
                let times = self.count(start.len());
                start.repeat(times) + &inner + &end.repeat(times)
            }
        }
    }
}
