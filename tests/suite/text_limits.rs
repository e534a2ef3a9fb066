//! Chat templates that would overflow the stack, and the corners of minijinja that would end a page.

use std::time::Instant;

use pagelm::text::template::parse_json;
use pagelm::text::{ChatTemplate, RenderOptions};
use pagelm::{Error, ErrorKind};

use crate::common::{bodies, fixtures};

fn render(source: &str) -> Result<String, Error> {
    let messages = parse_json(r#"[{"role": "user", "content": "hi"}]"#).unwrap();
    ChatTemplate::new(source)?.render(&messages, &RenderOptions::default())
}

/// What `work` gives in a thread with a stack of so many KiB.
fn on_stack<T: Send + 'static>(kib: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(kib << 10).spawn(work).unwrap().join().expect("no panic")
}

/// A worker of a page has 1 MiB; half of it must do, here where frames are larger than there.
fn kind(source: String) -> Result<(), ErrorKind> {
    on_stack(512, move || render(&source).map(drop).map_err(|e| e.kind()))
}

fn refused(name: &str, source: String) {
    let start = Instant::now();
    assert_eq!(kind(source), Err(ErrorKind::TemplateLimit), "{name}");
    assert!(start.elapsed().as_secs() < 5, "{name} took {:?}", start.elapsed());
}

/// Everything that can be chained or nested: what is repeated before, the middle, what is repeated after.
fn chains(n: usize) -> Vec<(&'static str, String)> {
    let inside =
        |before: &str, middle: &str, after: &str| format!("{{{{ {}{middle}{} }}}}", before.repeat(n), after.repeat(n));
    let blocks = |start: &str, end: &str| format!("{}x{}", start.repeat(n), end.repeat(n));
    let numbered: String = (0..n).map(|i| format!("{{% block b{i} %}}")).collect();
    vec![
        ("-", inside("-", "1", "")),
        ("+", inside("+", "1", "")),
        ("- with spaces", inside("- ", "x", "")),
        ("not", inside("not ", "x", "")),
        ("a + b", inside("", "1", " + 1")),
        ("a - b", inside("", "x", "-1")),
        ("a * b", inside("", "1", "*1")),
        ("a / b", inside("", "1", "/1")),
        ("a ** b", inside("", "1", "**1")),
        ("a ~ b", inside("", "x", "~1")),
        ("and", inside("", "x", " and x")),
        ("or", inside("", "x", " or x")),
        ("==", inside("", "1", " == 1")),
        ("in", inside("", "1", " in [1]")),
        ("not in", inside("", "1", " not in [1]")),
        (".a", inside("", "messages", ".a")),
        (".0", inside("", "messages", ".0")),
        ("[0]", inside("", "messages", "[0]")),
        ("[:]", inside("", "messages", "[:]")),
        ("()", inside("", "f", "()")),
        ("|d", inside("", "x", "|d")),
        ("|d()", inside("", "x", "|d()")),
        ("is", inside("", "x", " is defined")),
        ("is not", inside("", "x", " is not defined")),
        ("ternary", inside("1 if x else ", "1", "")),
        ("ternary without else", inside("", "1", " if x")),
        ("ternary in its condition", inside("1 if (", "x", ") else 2")),
        ("parentheses", inside("(", "1", ")")),
        ("lists", inside("[", "1", "]")),
        ("tuples", inside("(", "1", ",)")),
        ("values of maps", inside("{1:", "1", "}")),
        ("keys of maps", inside("{", "1", ":1}")),
        ("arguments", inside("f(", "1", ")")),
        ("named arguments", inside("f(a=", "1", ")")),
        ("arguments of filters", inside("x|d(", "1", ")")),
        ("arguments of tests", inside("x is eq(", "1", ")")),
        ("subscripts", inside("x[", "1", "]")),
        ("slices", inside("x[:", "1", "]")),
        ("negated parentheses", inside("-(", "1", ")")),
        ("open parentheses", inside("(", "1", "")),
        ("open lists with neighbours", inside("[1, ", "1", "")),
        ("second items", inside("[1, ", "1", "]")),
        ("elif", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(n))),
        ("open elif", format!("{{% if 0 %}}{}", "{% elif 0 %}".repeat(n))),
        ("dotted target", format!("{{% set a{} = 1 %}}", ".a".repeat(n))),
        ("nested target", format!("{{% for {}a{} in [] %}}{{% endfor %}}", "(".repeat(n), ",)".repeat(n))),
        ("filters of a block", format!("{{% filter upper{} %}}x{{% endfilter %}}", "|upper".repeat(n))),
        ("filters of a set", format!("{{% set x{} %}}x{{% endset %}}", "|upper".repeat(n))),
        ("if", blocks("{% if 1 %}", "{% endif %}")),
        ("open if", "{% if 1 %}".repeat(n)),
        ("else", blocks("{% if 0 %}{% else %}", "{% endif %}")),
        ("for", blocks("{% for a in [1] %}", "{% endfor %}")),
        ("for with a condition", blocks("{% for a in [1] if a %}", "{% endfor %}")),
        ("else of for", blocks("{% for a in [] %}{% else %}", "{% endfor %}")),
        ("macro", blocks("{% macro f(a=1) %}", "{% endmacro %}")),
        ("call", format!("{{% macro f() %}}{{% endmacro %}}{}", blocks("{% call f() %}", "{% endcall %}"))),
        ("filter", blocks("{% filter upper %}", "{% endfilter %}")),
        ("set", blocks("{% set x %}", "{% endset %}")),
        ("with", blocks("{% with a = 1 %}", "{% endwith %}")),
        ("generation", blocks("{% generation %}", "{% endgeneration %}")),
        ("autoescape", blocks("{% autoescape false %}", "{% endautoescape %}")),
        ("block", numbered + &"{% endblock %}".repeat(n)),
    ]
}

#[test]
fn every_long_chain_and_deep_nesting_is_refused_before_it_recurses() {
    // The first ends a page (wasm from some 2,000 links on), the last a process.
    for n in [1_000, 5_000, 40_000] {
        for (name, source) in chains(n) {
            refused(&format!("{name}, {n} times"), source);
        }
    }
}

#[test]
fn the_longest_chains_that_are_allowed_fit_half_of_the_stack() {
    for n in
        [1, 2, 4, 8, 16, 32, 40, 50, 60, 70, 80, 90, 100, 110, 120, 125, 140, 160, 200, 240, 255, 300, 400, 500, 510]
    {
        for (name, source) in chains(n) {
            let result = kind(source);
            // The names in it lead nowhere, so some fail when they run.
            assert!(n > 40 || result != Err(ErrorKind::TemplateLimit), "{name}, {n} times: {result:?}");
        }
    }
}

#[test]
fn mixed_nesting_adds_up() {
    let mixed = |n: usize| {
        let (starts, ends) = ("{% if 1 %}{% for a in [1] %}".repeat(n), "{% endfor %}{% endif %}".repeat(n));
        format!("{starts}{{{{ {}1{} }}}}{ends}", "-[x|d(not ".repeat(n), ")].a".repeat(n))
    };
    assert_ne!(kind(mixed(10)), Err(ErrorKind::TemplateLimit));
    for n in [20, 30, 40, 100] {
        let result = kind(mixed(n));
        assert!(n < 100 || result == Err(ErrorKind::TemplateLimit), "{n}: {result:?}");
    }
}

#[test]
fn long_but_flat_templates_are_no_trouble() {
    let n = 20_000;
    for source in [
        "{{ 1 }}".repeat(n),
        "{% if 1 %}x{% endif %}".repeat(n),
        "{% set x = 1 %}".repeat(n),
        format!("{{{{ [{}] | length }}}}", "1, ".repeat(n)),
        format!("{{{{ {{{}}} | length }}}}", (0..n).map(|i| format!("{i}: [1], ")).collect::<String>()),
        format!("{{{{ {} }}}}", "'a' ".repeat(200)),
        "{% raw %}".to_owned() + &"{{ - - - ( [ ".repeat(n) + "{% endraw %}",
        format!("{{# {} #}}", "((((".repeat(n)),
        format!("{{{{ '{}' | length }}}}", "-(".repeat(n)),
    ] {
        assert_eq!(kind(source.clone()), Ok(()), "{}", &source[..20]);
    }
}

#[test]
fn published_templates_keep_far_from_the_limit() {
    let data = fixtures::json("reference/templates.json");
    for (name, template) in data["templates"].as_object().unwrap() {
        let source = template["template"].as_str().unwrap();
        let wrapped = "{% if true %}".repeat(100) + source + &"{% endif %}".repeat(100);
        ChatTemplate::new(&wrapped).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn what_hides_its_depth_cannot_be_chained_without_a_bound() {
    let many = |start: &str, body: &str| format!("{start}{{% for i in range(100000) %}}{body}{{% endfor %}}x");
    let ns = "{% set ns = namespace(l=1) %}";
    refused(
        "namespaces from the head to the tail",
        many(
            "{% set root = namespace() %}{% set ns = namespace(tail=root) %}",
            "{% set n = namespace() %}{% set ns.tail.next = n %}{% set ns.tail = n %}",
        ),
    );
    refused(
        "namespaces in lists",
        many(
            "{% set root = namespace() %}{% set ns = namespace(tail=root) %}",
            "{% set n = namespace() %}{% set ns.tail.next = [[[n]]] %}{% set ns.tail = n %}",
        ),
    );
    refused("cyclers", many(ns, "{% set ns.l = cycler(ns.l) %}"));
    refused("joiners", many(ns, "{% set ns.l = joiner(ns.l) %}"));
    refused("loops", many(ns, "{% for x in [ns.l] %}{% set ns.l = loop %}{% endfor %}"));
    refused("loops left early", many(ns, "{% for x in [1, 2, ns.l] %}{% set ns.l = loop %}{% break %}{% endfor %}"));
    refused(
        "loops that remember",
        many(ns, "{% for x in [1] %}{% set c = loop.changed(ns.l) %}{% set ns.l = loop %}{% endfor %}"),
    );
    refused(
        "a namespace as a key in itself",
        "{% set ns = namespace() %}{% set ns.a = {ns: 1} %}{% set ns.b = {ns: 1} %}{{ ns.b[ns] }}".into(),
    );
    let macros = "{% set g = ns.l %}{% macro f() %}{{ g }}{% endmacro %}{% set ns.l = f %}";
    assert_eq!(kind(many(ns, macros)), Ok(()), "macros do not hold each other");
    let honest = "{% set ns = namespace(inner=namespace(v=1)) %}{% set c = cycler('a', 'b') %}{% set ns.c = c %}";
    assert_eq!(render(&format!("{honest}{{{{ ns.inner.v }}}}{{{{ c.next() }}}}{{{{ ns.c.next() }}}}")).unwrap(), "1ab");
}

#[test]
fn deep_values_and_recursion_fit_the_stack() {
    for (start, body) in [("[", "]"), ("{'a': ", "}"), ("(", ",)")] {
        let build = format!("{{% set ns.l = {start}ns.l{body} %}}");
        let uses = "{{ ns.l }}{{ ns.l == ns.l }}{{ ns.l | tojson(indent=1) }}{{ [ns.l, ns.l] | unique | list }}\
                    {{ [ns.l, ns.l] | sort }}{{ {'k': ns.l} }}{{ ns.l in [ns.l] }}{{ ns.l ~ '' }}";
        let source =
            |n| format!("{{% set ns = namespace(l=1) %}}{{% for i in range({n}) %}}{build}{{% endfor %}}{uses}");
        assert_ne!(kind(source(50)), Err(ErrorKind::TemplateLimit), "{start}");
        refused(start, source(100_000));
    }
    for source in [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% call f() %}{{ f() }}{% endcall %}{{ caller() }}{% endmacro %}{{ f() }}",
        "{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{% block a %}{{ self.a() | upper }}{% endblock %}",
        "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
        "{% for x in [[1]] recursive %}{{ loop([[1]]) | upper }}{% endfor %}",
    ] {
        let result = kind(source.to_owned());
        assert!(matches!(result, Err(ErrorKind::TemplateLimit | ErrorKind::BadTemplate)), "{source}: {result:?}");
    }
}

#[test]
fn messages_nested_deep_are_refused_or_rendered() {
    let nested = |n: usize| format!(r#"[{{"role": "user", "content": {}1{}}}]"#, "[".repeat(n), "]".repeat(n));
    let template =
        "{{ messages }}{{ messages | tojson(indent=2) }}{{ messages == messages }}{{ [messages, messages] | sort }}";
    let run = |n| {
        on_stack(256, move || {
            let messages = parse_json(&nested(n))?;
            ChatTemplate::new(template)?.render(&messages, &RenderOptions::default()).map(drop)
        })
    };
    assert_eq!(run(50), Ok(()));
    for n in [62, 64, 100, 10_000, 1_000_000] {
        let kind = run(n).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::TemplateLimit | ErrorKind::InvalidArgument), "{n}: {kind:?}");
    }
}

#[test]
fn constants_are_not_folded_without_a_limit() {
    refused("a tuple of 2 GB", "{{ ((1,) * 100000000) | length }}".into());
    refused("a text of 100 MB", "{{ ('x' * 100000000) | length }}".into());
    refused("many of them", "{% if 0 %}{{ ('x' * 100000000) | length }}{% endif %}{{ 'x' * 100000000 }}".into());
    refused("lists as arguments", "{% set r = range(100000) | list %}{{ f(*r, *r, *r, *r, *r, *r) }}".into());
    assert_eq!(kind("{% if 0 %}{{ ((1,) * 100000000) | length }}{% endif %}".repeat(1000)), Ok(()));
    assert_eq!(render("{{ 'ab' * 2 }}{{ 2 * 3 ** 2 * 2 }}{{ -2 * 3 ~ 1e20 ~ 4 * 2 }}").unwrap(), "abab36-61e+208");
}

#[test]
fn break_and_continue_leave_the_blocks_around_them() {
    for (source, want) in [
        ("{% for x in [1, 2] %}{% with y = x %}{{ y }}{% break %}{% endwith %}{% endfor %}|", "1|"),
        ("{% for x in [1, 2] %}{% with y = x %}{% continue %}{% endwith %}{{ x }}{% endfor %}|", "|"),
        ("{% for x in [1, 2] %}{% set y %}a{% break %}{% endset %}{% endfor %}b", "b"),
        ("{% for x in [1, 2] %}{% filter upper %}a{% continue %}{% endfilter %}{% endfor %}b", "b"),
        ("{% for x in [1] %}{% autoescape true %}{% break %}{% endautoescape %}{% endfor %}{{ '<' }}", "<"),
        (
            "{% for x in [1, 2] %}{% with %}{% for y in [1, 2] %}{% set z %}{% break %}{% endset %}{% endfor %}{{ x }}{% endwith %}{% endfor %}",
            "12",
        ),
        (
            "{% for x in [1, 2] if x %}{% generation %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endgeneration %}{% endfor %}",
            "2",
        ),
    ] {
        assert_eq!(render(source).unwrap(), want, "{source}");
    }
    assert_eq!(kind("{% for x in [1] %}{{ loop.cycle() }}{% endfor %}".into()), Err(ErrorKind::BadTemplate));
}

#[test]
fn generation_tags_are_tags_only_where_jinja_has_tags() {
    for (source, want) in [
        ("{%- generation -%} a {%- endgeneration %}{%+ generation +%} b{%endgeneration%}", "a b"),
        ("{{ '{% generation %}' }}{{ \"{%- endgeneration -%}\" }}", "{% generation %}{%- endgeneration -%}"),
        ("{% raw %}{% generation %}x{% endgeneration %}{% endraw %}", "{% generation %}x{% endgeneration %}"),
        ("{# {% generation %} #}a", "a"),
        ("{{ '{%' }}{% generation %}{{ '%}' }}{% endgeneration %}", "{%%}"),
        ("{% set s = '%}{% generation %}' %}{{ s }}", "%}{% generation %}"),
        ("{% set generation = 1 %}{{ generation }}{{ {'endgeneration': 2}.endgeneration }}", "12"),
        // The block has variables of its own, as in transformers.
        ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
    ] {
        assert_eq!(render(source).unwrap(), want, "{source}");
    }
    assert!(render("{% generation %}x{% else %}y{% endgeneration %}").is_err());
}

#[test]
fn signs_before_an_operand_are_read_as_in_jinja() {
    for (source, want) in [
        ("{{ +3 }} {{ -+3 }} {{ +-3 }} {{ + + 3 }} {{ 1 - +2 }} {{ 1 + +2 }} {{ +1.5 }}", "3 -3 -3 3 -1 3 1.5"),
        (
            "{{ 2 ** +2 }} {{ +2 ** 2 }} {{ +3 | abs }} {{ [+1, +2] }} {{ {'a': +1} }} {{ (+1) }}",
            "4 4 3 [1, 2] {'a': 1} 1",
        ),
        ("{{ 1 if +1 else +2 }} {{ not +0 }} {{ 3 == +3 }} {{ 3 in [+3] }} {{ +3 ~ +4 }}", "1 True True True 34"),
        ("{{ +messages | length }} {{ 1 +(2) }} {{ (1)+2 }} {{ [1]+[2] }} {{ 'a'+'b' }}", ""),
        ("{{ +true }} {{ -true }}", "1 -1"),
        ("{{ {'in': 1}.in + 1 }} {{ {'not': 'a'}.not * 2 }}", "2 aa"),
        ("{% if +1 %}y{% endif %}{% set a = +5 %}{{ a }}{% for i in range(+2) %}{{ i }}{% endfor %}", "y501"),
    ] {
        // A list has no sign, in Python neither.
        assert_eq!(render(source).unwrap_or_default(), want, "{source}");
    }
    for source in ["{{ +'a' }}", "{{ -'a' }}", "{{ +none }}", "{{ +undefined }}"] {
        assert_eq!(render(source).unwrap_err().kind(), ErrorKind::BadTemplate, "{source}");
    }
}

/// What Jinja2 3.1.6 prints on Python 3.
#[test]
fn methods_of_strings_give_what_python_gives() {
    for (source, want) in [
        ("{{ 'a b c d'.rsplit(' ', 1) }} {{ 'a,b,c'.rsplit(',', maxsplit=1) }}", "['a b c', 'd'] ['a,b', 'c']"),
        ("{{ ' a  b c '.rsplit(None, 1) }} {{ ' a  b c '.split(None, 1) }}", "[' a  b', 'c'] ['a', 'b c ']"),
        (
            "{{ ''.split(',') }} {{ ''.split() }} {{ 'aaa'.rsplit('aa', 1) }} {{ 'a'.split(',', 0) }}",
            "[''] [] ['a', ''] ['a']",
        ),
        ("{{ 'a,b,c'.split(sep=',', maxsplit=1) }} {{ ',a'.rsplit(',') }}", "['a', 'b,c'] ['', 'a']"),
        ("{{ \"hello_world it's 3rd a-b x1y\".title() }}", "Hello_World It'S 3Rd A-B X1Y"),
        ("{{ \"hello_world it's 3rd a-b (x\" | title }} {{ 'ß'.title() }}", "Hello_world It's 3rd A-B (X Ss"),
        ("{{ 'a=b=c'.partition('=') }} {{ 'a'.rpartition('=') }}", "('a', '=', 'b=c') ('', '', 'a')"),
        ("{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('bc') }} {{ 'aB'.swapcase() }}", "bc a Ab"),
        (
            "{{ 'hello'.find('l', 3) }} {{ 'hello'.rfind('l', 0, -2) }} {{ 'héllo'.index('l') }} {{ 'a'.find('b') }}",
            "3 2 2 -1",
        ),
        (
            "{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '*') }} {{ 'ab'.center(5, '*') }} {{ '-5'.zfill(4) }}",
            "a  |**a **ab* -005",
        ),
        (
            "{{ 'a\\nb\\r\\nc\\rd\\n'.splitlines() }} {{ 'a\\nb'.splitlines(true) }}",
            "['a', 'b', 'c', 'd'] ['a\\n', 'b']",
        ),
    ] {
        assert_eq!(render(source).unwrap(), want, "{source}");
    }
    for source in
        ["{{ 'a'.split('') }}", "{{ 'a'.index('b') }}", "{{ 'a'.partition('') }}", "{{ 'a'.center(3, 'xx') }}"]
    {
        assert_eq!(render(source).unwrap_err().kind(), ErrorKind::BadTemplate, "{source}");
    }
    refused("padding", "{{ 'a'.center(10 ** 10) }}".into());
    refused("pieces", "{{ (',' * 10000000).rsplit(',') | length }}".into());
}

/// Renders templates that grow from a grammar, with half of the stack that a page's worker has.
fn grown(count: usize, seed: u64) {
    on_stack(512, move || {
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u8
        };
        let (mut rendered, mut limited) = (0, 0);
        for _ in 0..count {
            let data: Vec<u8> = (0..next() % 48 + 4).map(|_| next()).collect();
            match bodies::template(&data) {
                Ok(_) => rendered += 1,
                Err(error) if error.kind() == ErrorKind::TemplateLimit => limited += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::BadTemplate, "{}", bodies::template_source(&data)),
            }
        }
        assert!(
            rendered > count / 20 && limited > count / 20,
            "the grammar has lost its use: {rendered} and {limited} of {count}"
        );
    });
}

#[test]
fn grown_templates_neither_panic_nor_overflow_the_stack() {
    grown(2_000, 7);
}

#[test]
#[ignore = "takes minutes: make test-slow"]
fn a_million_grown_templates_neither_panic_nor_overflow_the_stack() {
    std::thread::scope(|s| (0..2).for_each(|i| drop(s.spawn(move || grown(500_000, 1000 + i)))));
}
