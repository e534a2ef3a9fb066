//! Grammars in the notation of llama.cpp.

use super::*;
use crate::common::byte_vocabulary;
use crate::common::drawn::{draw, ways_out};
use crate::common::rng::Rng;

fn check(grammar: &str, yes: &[&str], no: &[&str]) {
    let source = GrammarSource::Gbnf(grammar.into());
    let m = Bytes::new().matcher(&source).unwrap_or_else(|e| panic!("{grammar}: {e}"));
    yes.iter().for_each(|text| assert!(accepts(&m, text), "{grammar} refuses {text:?}"));
    no.iter().for_each(|text| assert!(!accepts(&m, text), "{grammar} lets {text:?} through"));
}

const JSON: &str = r#"# Any JSON object.
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;

#[test]
fn a_grammar_means_what_llama_cpp_says() {
    check(
        JSON,
        &["{}", r#"{"a":1}"#, r#"{ "a": [1, {"b": "é\u00e9\n"}, true],"c":-1.5e+3}"#, "{\n  \"a\": null}"],
        &["", "[1]", "{\"a\" 1}", "{\"a\":01}", "{'a':1}", "{} {}", "{\"a\":1,}"],
    );
    check(
        "root ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\nterm ::= ident | num | \"(\" ws expr \")\" ws\n\
         ident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*",
        &["a=1\n", "(a +b2 )*3=4\n", "((1))=x\n1=1\n"],
        &["a=1", "a==1\n", "(a=1\n", "=1\n"],
    );
    // What is regular is exact, however it is cut into rules.
    check(
        "root ::= a \"b\"\na ::= \"a\" | \"ab\" | c*\nc ::= \"x\"",
        &["ab", "abb", "b", "xxb"],
        &["a", "xab", "abbb"],
    );
    check(
        "root ::= [a-z]* \"z\" tail?\ntail ::= \"(\" root \")\"",
        &["z", "zz", "abz(z)", "z(az(z))"],
        &["a", "z()", "z(z"],
    );
    check(
        "root ::= \"a\"{2} \"b\"{1,} \"c\"{0,2} \"d\"? .",
        &["aab\n", "aabbccdx", "aabé"],
        &["aab", "abx", "aabcccde"],
    );
    check(
        "root ::= [^a-c\\]\\x41\\u00e9\\U0001F600-] [-] [a\\-z]",
        &["x--", "d-a"],
        &["b-a", "]-a", "A-a", "é-a", "😀-a", "--a", "d-b"],
    );
    check("root ::= \"\\\"\\\\\\n\\t\\x21\\u00e9\" | \"\"", &["\"\\\n\t!é", ""], &["\"", "x"]);
    check("root ::= \"a\" root \"b\" | \"\"", &["", "ab", "aaabbb"], &["a", "aab", "ba"]);
    // A loop of one text, before what starts alike.
    check("root ::= \"xy\"+ b\nb ::= \"xyz\" | \"xy\" b \"w\"", &["xyxyz", "xyxyxyzw"], &["xyz", "xyxy"]);
    check("root ::= root \"a\" | \"b\"", &["b", "baa"], &["a", ""]);
    check("root ::= (\"a\" |\n  \"b\")\n  | # or else\n  \"c\"\n", &["a", "b", "c"], &["ab"]);
}

#[test]
fn tokens_have_names_and_numbers() {
    let tokenizer = pagelm::text::Tokenizer::from_gguf(&byte_vocabulary::meta(&[], &["<think>", "</think>"])).unwrap();
    let mut v = Vocabulary::new(&tokenizer).unwrap();
    for grammar in [
        "root ::= <think> [^<]* </think> \"a\"",
        "root ::= <[258]> [^<]* <[259]> \"a\"",
        "root ::= !<[259]> [^<]* <[259]> \"a\"",
    ] {
        let mut m = v.grammar(&GrammarSource::Gbnf(grammar.into())).unwrap().matcher();
        for id in [258, b'x'.into(), 259, b'a'.into()] {
            m.accept(id).unwrap_or_else(|e| panic!("{grammar}: {e}"));
        }
        assert!(m.is_over());
    }
}

#[test]
fn drawn_answers_are_json() {
    let tokenizer = byte_vocabulary::with(&[]);
    let grammar = Vocabulary::new(&tokenizer).unwrap().grammar(&GrammarSource::Gbnf(JSON.into())).unwrap();
    let (mut rng, out) = (Rng::named("gbnf"), ways_out(&tokenizer));
    for _ in 0..100 {
        let text = draw(&mut rng, &mut grammar.matcher(), &tokenizer, &out, &mut Vec::new());
        let value: std::result::Result<serde_json::Map<String, Value>, _> = serde_json::from_str(&text);
        let huge = |e: &serde_json::Error| e.to_string().starts_with("number out of range");
        assert!(value.as_ref().map_or_else(huge, |_| true), "{value:?} in {text}");
    }
}

#[test]
fn what_is_wrong_or_not_supported_is_refused_with_its_line() {
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(100), ")".repeat(100));
    let chain: String = (0..5001).map(|i| format!("r{i} ::= r{}\n", i + 1)).collect();
    let nested = "root ::= a{200}\na ::= \"x\"{200}";
    for (grammar, says) in [
        ("", "no rule `root`"),
        ("start ::= \"a\"", "no rule `root`"),
        ("root ::= a", "`a` is not defined, in line 1"),
        ("root ::= \"a\"\n\nroot ::= \"b\"", "`root` is defined twice, in line 3"),
        ("root ::= \"a", "does not end, in line 1"),
        ("root ::= [a", "does not end"),
        ("root ::= []", "matches nothing"),
        ("root ::= [z-a]", "is empty"),
        ("root ::= \"\\q\"", "`\\q` is not supported"),
        ("root ::= \"\\xZZ\"", "2 hexadecimal digits"),
        ("root ::= \"\\ud800\"", "4 hexadecimal digits"),
        ("root ::= (\"a\"", "`)` is expected"),
        ("root = \"a\"", "`::=` is expected"),
        ("root ::= \"a\"\n%", "name of a rule is expected, in line 2"),
        ("root ::= \"a\"{3,1}", "more times at least"),
        ("root ::= \"a\"{x}", "is no number of times"),
        ("root ::= \"a\"{3", "not closed"),
        ("root ::= \"a\"{10001}", "10001 times"),
        (nested, "40000 times"),
        ("root ::= <a b>", "a token is expected"),
        ("root ::= !<think>", "is not supported"),
        ("root ::= !\"a\"", "a token is expected"),
        (&deep, "more than 64 parentheses"),
        (&chain, "more than 5000 rules"),
        ("root ::= \"a\" $", "does not go on"),
    ] {
        let e = Bytes::new()
            .matcher(&GrammarSource::Gbnf(grammar.into()))
            .err()
            .unwrap_or_else(|| panic!("{grammar} compiles"));
        assert_eq!((e.kind(), e.place()), (ErrorKind::BadGrammar, "the grammar"), "{e}");
        assert!(e.detail().contains(says), "{grammar}: {e}");
    }
    // As deep as it may be, and deeper.
    for (n, fits) in [(110, true), (200, false), (4900, false)] {
        let chain: String = (0..n).map(|i| format!("r{i} ::= \"a\"? r{}\n", i + 1)).collect();
        for end in ["\"b\"", "r0 | \"b\""] {
            let grammar = format!("root ::= r0\n{chain}r{n} ::= {end}");
            match Bytes::new().matcher(&GrammarSource::Gbnf(grammar)) {
                Ok(m) => assert!(fits && accepts(&m, "b")),
                Err(e) => assert!(!fits && e.detail().contains("deep into each other"), "{n}, {end}: {e}"),
            }
        }
    }
    // The same in Lark's notation.
    let chain: String = (0..4000).map(|i| format!("r{i}: \"a\"? r{}\n", i + 1)).collect();
    let terminals: String = (0..4000).map(|i| format!("R{i}: \"a\"? R{}\n", i + 1)).collect();
    for lark in [
        format!("start: r0\n{chain}r4000: \"b\""),
        format!("start: R0\n{terminals}R4000: \"b\""),
        format!("start: {}\"a\"{}", "(".repeat(4000), ")".repeat(4000)),
        format!("start: {}\"a\"{}", "[".repeat(300_000), "]".repeat(300_000)),
    ] {
        let e = Bytes::new().matcher(&GrammarSource::Lark(lark)).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::BadGrammar, "{e}");
    }
}

#[test]
fn a_grammar_of_which_no_answer_ends_is_not_followed_for_ever() {
    for grammar in [
        "root ::= \"xy\"{2,} root \"z\"",
        "root ::= \"xy\" {2,}root!<[65]>",
        "root ::= root \"a\"",
        "root ::= \"a\" root",
    ] {
        match Bytes::new().matcher(&GrammarSource::Gbnf(grammar.into())) {
            Ok(mut m) => assert!(!m.may_stop().unwrap(), "{grammar}"),
            Err(e) => assert_eq!(e.kind(), ErrorKind::BadGrammar, "{grammar}: {e}"),
        }
    }
}
