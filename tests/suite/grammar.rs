//! Grammars: what they let through, and what they refuse.

mod bounded;
mod gbnf;
mod generated;
mod official;
mod vocabulary;

use pagelm::grammar::{GrammarSource, Matcher, Vocabulary};
use pagelm::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::common::byte_vocabulary;

/// Grammars for the vocabulary of bytes.
struct Bytes(Vocabulary);

impl Bytes {
    fn new() -> Self {
        Self(Vocabulary::new(&byte_vocabulary::with(&[])).unwrap())
    }

    fn matcher(&mut self, source: &GrammarSource) -> Result<Matcher> {
        Ok(self.0.grammar(source)?.matcher())
    }

    fn schema(&mut self, schema: &Value) -> Result<Matcher> {
        self.matcher(&GrammarSource::JsonSchema(schema.to_string()))
    }

    /// What is said of a schema that is refused.
    fn refused(&mut self, schema: &Value) -> Error {
        let e = self.schema(schema).err().unwrap_or_else(|| panic!("{schema} compiles"));
        assert_eq!((e.kind(), e.place()), (ErrorKind::BadGrammar, "the JSON schema"), "{e}");
        e
    }

    /// Checks what a schema lets through, as text.
    fn check(&mut self, schema: &Value, yes: &[&str], no: &[&str]) {
        let m = self.schema(schema).unwrap_or_else(|e| panic!("{schema}: {e}"));
        yes.iter().for_each(|text| assert!(accepts(&m, text), "{schema} refuses {text}"));
        no.iter().for_each(|text| assert!(!accepts(&m, text), "{schema} lets {text} through"));
    }
}

/// Whether a text is an answer, from its start to its end.
fn accepts(matcher: &Matcher, text: &str) -> bool {
    let mut m = matcher.clone();
    text.bytes().all(|b| m.accept(b.into()).is_ok()) && m.may_stop().unwrap()
}

#[test]
fn a_pattern_that_escapes_a_backslash_or_a_mark_means_what_it_says() {
    let mut b = Bytes::new();
    b.check(
        &json!({"type": "string", "pattern": r"^hello there indeed\!$"}),
        &[r#""hello there indeed!""#],
        &[r#""hello there indeed\\!""#, r#""hello there indeed""#, r#""hello""#],
    );
    b.check(
        &json!({"type": "string", "pattern": r"^hello there indeed\\!$"}),
        &[r#""hello there indeed\\!""#],
        &[r#""hello there indeed!""#],
    );
}

#[test]
fn what_cannot_be_compiled_is_refused_and_never_ignored() {
    let mut b = Bytes::new();
    for pattern in ["(", "[a", r"(a)\1", "(?=a)b", "a{2000000}"] {
        let e = b.refused(&json!({"type": "string", "pattern": pattern}));
        assert!(!e.detail().is_empty() && !e.detail().contains('<'), "{pattern}: {e}");
    }
    for (keyword, value) in [
        ("not", json!({"type": "null"})),
        ("uniqueItems", json!(true)),
        ("contains", json!({})),
        ("propertyNames", json!({"maxLength": 3})),
        ("dependentRequired", json!({"a": ["b"]})),
        ("if", json!({})),
        ("unevaluatedProperties", json!(false)),
        ("$dynamicRef", json!("#a")),
    ] {
        // As deep as it may lie.
        let e = b.refused(&json!({"properties": {"a": {"items": {keyword: value}}}}));
        assert!(e.detail().contains("not supported") && e.detail().contains(keyword), "{e}");
    }
    let e = b.refused(&json!({"type": "string", "format": "a-format-of-tomorrow"}));
    assert!(e.detail().contains("a-format-of-tomorrow"), "{e}");
    let e = b.refused(&json!({"$ref": "https://example.com/schema.json"}));
    assert!(e.detail().contains("example.com"), "{e}");
    for text in ["", "{", "[]", "false", "3", "{\"type\": 3}", "{\"type\": \"strin\"}"] {
        let e = b.matcher(&GrammarSource::JsonSchema(text.into())).err().unwrap_or_else(|| panic!("{text} compiles"));
        assert_eq!(e.kind(), ErrorKind::BadGrammar, "{text}: {e}");
    }
    for (source, name) in [
        (GrammarSource::Regex("(".into()), "the regular expression"),
        (GrammarSource::Lark("start: missing".into()), "the grammar"),
        (GrammarSource::Lark("begin: \"a\"".into()), "the grammar"),
        (GrammarSource::Lark("a".repeat((1 << 20) + 1)), "the grammar"),
    ] {
        let e = b.matcher(&source).err().unwrap_or_else(|| panic!("{source:?} compiles"));
        assert_eq!((e.kind(), e.place()), (ErrorKind::BadGrammar, name), "{e}");
    }
}

#[test]
fn a_schema_cannot_loosen_how_it_is_taken() {
    let loose = json!({"lenient": true, "coerce_one_of": true});
    let e = Bytes::new().refused(&json!({"x-guidance": loose, "uniqueItems": true}));
    assert!(e.detail().contains("uniqueItems"), "{e}");
}

#[test]
fn patterns_match_anywhere_unless_they_are_anchored() {
    let mut b = Bytes::new();
    b.check(&json!({"type": "string", "pattern": r"\S"}), &[r#"" a ""#, r#""ab""#], &[r#""""#, r#""  ""#]);
    let deep = json!({"type": "object", "properties": {"a": {"type": "object", "properties": {
        "b": {"type": "string", "pattern": "^[a-z]+$"}}, "required": ["b"]}}, "required": ["a"]});
    b.check(&deep, &[r#"{"a":{"b":"abc"}}"#], &[r#"{"a":{"b":"aBc"}}"#, r#"{"a":{"b":""}}"#, r#"{"a":{"b":"a1"}}"#]);
    b.check(&json!({"type": "string", "pattern": "^a|b$"}), &[r#""ax""#, r#""xb""#], &[r#""xa""#, r#""bx""#]);
}

#[test]
fn long_strings_keep_their_length_in_nested_objects() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "object", "properties": {
        "text": {"type": "string", "maxLength": 2000}}, "required": ["text"]}}, "required": ["a"]});
    let of = |n: usize| format!(r#"{{"a":{{"text":"{}"}}}}"#, "x".repeat(n));
    Bytes::new().check(&schema, &[&of(0), &of(2000)], &[&of(2001)]);
}

#[test]
fn thirty_two_tools_with_deep_objects_compile() {
    let leaf = |i: usize| {
        json!({"type": "object", "properties": {
        "text": {"type": "string", "maxLength": 200 + i}, "n": {"type": "integer", "minimum": 0, "maximum": 1000 + i},
        "kind": {"enum": ["a", "b", "c"]}, "list": {"type": "array", "items": {"type": "number"}, "maxItems": 9}},
        "required": ["text", "n"], "additionalProperties": false})
    };
    let tool = |i: usize| {
        json!({"type": "object", "properties": {"name": {"const": format!("tool.{i}-Name")},
        "arguments": {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": leaf(i)},
        "required": ["b"]}, "c": leaf(i)}, "required": ["a"], "additionalProperties": false}},
        "required": ["name", "arguments"], "additionalProperties": false})
    };
    let schema = json!({"anyOf": (0..32).map(tool).collect::<Vec<_>>()});
    Bytes::new().check(
        &schema,
        &[r#"{"name":"tool.31-Name","arguments":{"a":{"b":{"text":"x","n":1031}}}}"#],
        &[
            r#"{"name":"tool.31-Name","arguments":{"a":{"b":{"text":"x","n":1032}}}}"#,
            r#"{"name":"tool.32-Name","arguments":{"a":{"b":{"text":"x","n":1}}}}"#,
            r#"{"name":"tool.3-Name","arguments":{}}"#,
        ],
    );
}

#[test]
fn references_lead_to_items_to_enums_and_back() {
    let mut b = Bytes::new();
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
        "v": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        "required": ["v"], "additionalProperties": false}}});
    b.check(
        &tree,
        &[r#"{"v":1}"#, r#"{"v":1,"kids":[{"v":2,"kids":[]},{"v":3}]}"#],
        &[r#"{"v":1,"kids":[{"kids":[]}]}"#, r#"{"v":1,"kids":[3]}"#],
    );
    let items = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "boolean"}},
        "b": {"$ref": "#/properties/a/items"}}, "required": ["b"]});
    b.check(&items, &[r#"{"b":true}"#], &[r#"{"b":1}"#, r#"{"b":{}}"#]);
    let colour = json!({"type": "object", "properties": {"c": {"$ref": "#/$defs/colour"}}, "required": ["c"],
        "additionalProperties": false, "$defs": {"colour": {"enum": ["red", "green"]}}});
    b.check(&colour, &[r#"{"c":"red"}"#], &[r#"{"c":{}}"#, r#"{"c":"blue"}"#, r#"{"c":{"red":1}}"#]);
}

#[test]
fn nothing_is_in_an_empty_enum() {
    Bytes::new().refused(&json!({"type": "string", "enum": []}));
    Bytes::new().refused(&json!({"allOf": [{"type": "string"}, {"type": "null"}]}));
}

#[test]
fn bounds_of_numbers_are_exact() {
    let mut b = Bytes::new();
    b.check(
        &json!({"type": "number", "minimum": 0.5}),
        &["0.5", "0.51", "1", "27.125", "1000000"],
        &["0,5", "0x5", "0.49", "0", "-1", "005"],
    );
    b.check(&json!({"type": "integer", "multipleOf": 3}), &["-6", "0", "9", "303"], &["-7", "1", "10", "3.5"]);
    b.check(&json!({"type": "number", "multipleOf": 0.25}), &["0.25", "-1.50", "7.00"], &["0.3", "0.251"]);
    b.check(
        &json!({"type": "integer", "exclusiveMinimum": -3, "maximum": 12}),
        &["-2", "0", "12"],
        &["-3", "13", "-2.5", "-0.5"],
    );
}

#[test]
fn properties_that_are_not_named_are_as_the_schema_says() {
    let mut b = Bytes::new();
    let open = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["b"], "additionalProperties": true});
    b.check(
        &open,
        &[r#"{"b":1}"#, r#"{"a":1,"b":2}"#, r#"{"b":2,"c":{"d":[]}}"#, r#"{"a":1,"b":2,"ab":"x"}"#],
        &["{}", r#"{"a":1}"#, r#"{"b":"x"}"#, r#"{"b":1,"c"}"#],
    );
    let closed = json!({"type": "object", "properties": {"a": {}}, "additionalProperties": false});
    b.check(&closed, &["{}", r#"{"a":null}"#], &[r#"{"b":1}"#, r#"{"a":1,"b":1}"#]);
    let numbers =
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}});
    b.check(&numbers, &[r#"{"a":"x","n":1}"#, r#"{"n":1}"#], &[r#"{"a":1}"#, r#"{"n":"x"}"#]);
}

#[test]
fn one_of_options_that_overlap_is_refused_and_of_others_taken() {
    let mut b = Bytes::new();
    let e = b.refused(&json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}));
    assert!(e.detail().contains("oneOf") && e.detail().contains("anyOf"), "{e}");
    b.check(&json!({"oneOf": [{"type": "integer"}, {"type": "string"}]}), &["1", r#""a""#], &["null", "1.5"]);
    let by = |kind: &str| {
        json!({"type": "object", "properties": {"kind": {"const": kind}, kind: {"type": "integer"}},
        "required": ["kind", kind], "additionalProperties": false})
    };
    b.check(
        &json!({"oneOf": [by("a"), by("b")]}),
        &[r#"{"kind":"a","a":1}"#, r#"{"kind":"b","b":1}"#],
        &[r#"{"kind":"a","b":1}"#, r#"{"kind":"c"}"#],
    );
}

#[test]
fn characters_may_be_escaped_and_count_once() {
    let mut b = Bytes::new();
    let any = json!({"type": "string"});
    b.check(
        &any,
        &[r#""é""#, r#""\u00e9""#, r#""\ud83d\ude00""#, r#""😀""#, r#""\n\"\\""#],
        &[r#""\ud83d""#, r#""\ude00""#, r#""\x""#, "\"\n\""],
    );
    let two = json!({"type": "string", "maxLength": 2, "minLength": 2});
    b.check(
        &two,
        &[r#""éé""#, r#""😀😀""#, r#""\u00e9é""#, r#""\ud83d\ude00a""#],
        &[r#""é""#, r#""😀""#, r#""ééé""#, r#""\ud83d\ude00""#],
    );
    let key = json!({"type": "object", "properties": {"é😀": {"type": "integer"}}, "required": ["é😀"],
        "additionalProperties": false});
    b.check(&key, &[r#"{"é😀":1}"#], &[r#"{"e":1}"#, r#"{"é":1}"#]);
}

#[test]
fn white_space_is_let_through_and_comes_to_an_end() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}},
        "required": ["a"], "additionalProperties": false});
    let most = format!("{{{}\"a\":[1]}}", " ".repeat(20));
    let more = format!("{{{}\"a\":[1]}}", " ".repeat(21));
    Bytes::new().check(
        &schema,
        &["{\n  \"a\": [\n    1,\n    2\n  ]\n}", "{\"a\":[1,2]}", &most],
        &[&more, " {\"a\":[1]}"],
    );
}

#[test]
fn days_and_seconds_are_those_that_there_are() {
    let mut b = Bytes::new();
    let of = |format: &str| json!({"type": "string", "format": format});
    b.check(
        &of("date"),
        &[r#""2024-02-29""#, r#""2000-02-29""#, r#""2023-02-28""#, r#""2023-10-31""#],
        &[r#""2023-02-29""#, r#""1900-02-29""#, r#""2024-02-30""#, r#""2024-04-31""#, r#""2024-13-01""#],
    );
    b.check(
        &of("time"),
        &[r#""23:59:59Z""#, r#""01:02:03.4+01:00""#],
        &[r#""12:00:60Z""#, r#""24:00:00Z""#, r#""1:00:00Z""#],
    );
    b.check(
        &of("date-time"),
        &[r#""2024-02-29T23:59:59Z""#],
        &[r#""2023-02-29T23:59:59Z""#, r#""2024-02-29T23:59:60Z""#, r#""2024-02-29""#],
    );
    // What a constant holds is no schema.
    b.check(&json!({"const": {"format": "time"}}), &[r#"{"format":"time"}"#], &[r#"{"format":"time","allOf":[]}"#]);
}

#[test]
fn any_object_and_any_json_are_what_they_are() {
    let mut b = Bytes::new();
    let object = b.matcher(&GrammarSource::JsonObject).unwrap();
    assert!(accepts(&object, r#"{"a":[1,null,{"b":"c"}],"d":-1.5e3}"#) && accepts(&object, "{}"));
    assert!(["[]", "1", "{a:1}", "{\"a\":1,}", "{'a':1}", "{\"a\":01}"].iter().all(|t| !accepts(&object, t)));
    let any = b.matcher(&GrammarSource::JsonSchema("true".into())).unwrap();
    assert!(["[]", "1", "\"\"", "null", "{\"a\":[true,false]}"].iter().all(|t| accepts(&any, t)));
    assert!(["", "nul", "[1,]", "undefined"].iter().all(|t| !accepts(&any, t)));
}

#[test]
fn regular_expressions_match_whole_answers() {
    let mut b = Bytes::new();
    let m = b.matcher(&GrammarSource::Regex(r"(yes|no)/\d{2,3}".into())).unwrap();
    assert!(["yes/12", "no/123"].iter().all(|t| accepts(&m, t)));
    assert!(["yes/1", "no/1234", "maybe/12", " yes/12", "yes12"].iter().all(|t| !accepts(&m, t)));
    let words = b.matcher(&GrammarSource::Regex(r"\p{Lu}\p{Ll}*( \p{Lu}\p{Ll}*)?".into())).unwrap();
    assert!(["Éa", "Über Ña"].iter().all(|t| accepts(&words, t)));
    assert!(["éa", "Ab ", ""].iter().all(|t| !accepts(&words, t)));
}

#[test]
fn lark_grammars_nest() {
    let sum = "start: term (\"+\" term)*\nterm: NUMBER | \"(\" start \")\"\nNUMBER: /[0-9]+/\n";
    let m = Bytes::new().matcher(&GrammarSource::Lark(sum.into())).unwrap();
    assert!(["1", "1+2", "(1+(2+3))+4"].iter().all(|t| accepts(&m, t)));
    assert!(["", "1+", "(1", "1)", "a", "1 + 2"].iter().all(|t| !accepts(&m, t)));
}

#[test]
fn what_nests_too_deep_or_grows_too_large_is_refused_in_time() {
    let mut b = Bytes::new();
    let deep = |n: usize| (0..n).fold(json!({"type": "null"}), |s, _| json!({"type": "array", "items": s}));
    b.check(&deep(50), &["[]"], &["{}"]);
    let text = format!("{}{}{}", "{\"items\":".repeat(10_000), "{}", "}".repeat(10_000));
    let all = [
        GrammarSource::JsonSchema(text),
        GrammarSource::Lark(format!("start: {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000))),
        GrammarSource::Lark(format!("start: {}\"a\"{}", "[".repeat(100_000), "]".repeat(100_000))),
        GrammarSource::Regex(format!("{}a{}", "(".repeat(100_000), ")".repeat(100_000))),
        GrammarSource::Regex("((((a{100}){100}){100}){100}){100}".into()),
        GrammarSource::Regex("(a|b)*a(a|b){3000}c(d|e){3000}".into()),
        GrammarSource::JsonSchema(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}).to_string()),
        GrammarSource::JsonSchema(json!({"allOf": [{"$ref": "#"}]}).to_string()),
    ];
    for (i, source) in all.iter().enumerate() {
        // What compiles for now must fail, or go on, but come to an end.
        match b.matcher(source) {
            Err(e) => assert_eq!(e.kind(), ErrorKind::BadGrammar, "{i}: {e}"),
            Ok(mut m) => {
                let _ = (0..200).try_for_each(|i| m.accept(if i % 2 == 0 { b'a'.into() } else { b'b'.into() }));
                if let Err(e) = m.mask() {
                    assert_eq!(e.kind(), ErrorKind::BadGrammar, "{i}: {e}");
                }
            }
        }
    }
}

#[test]
fn sources_come_as_json() {
    let read = |v: Value| serde_json::from_value::<GrammarSource>(v);
    assert_eq!(read(json!("jsonObject")).unwrap(), GrammarSource::JsonObject);
    let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
    let both = [json!({"jsonSchema": schema}), json!({"jsonSchema": schema.to_string()})];
    both.into_iter()
        .for_each(|v| assert_eq!(read(v).unwrap(), GrammarSource::JsonSchema(schema.to_string()), "in its order"));
    assert_eq!(read(json!({"regex": "a"})).unwrap(), GrammarSource::Regex("a".into()));
    assert_eq!(read(json!({"lark": "a"})).unwrap(), GrammarSource::Lark("a".into()));
    assert_eq!(read(json!({"gbnf": "a"})).unwrap(), GrammarSource::Gbnf("a".into()));
    for wrong in [json!("json"), json!({}), json!({"regex": 3}), json!({"ebnf": "a"}), json!(null)] {
        assert!(read(wrong.clone()).is_err(), "{wrong}");
    }
}
