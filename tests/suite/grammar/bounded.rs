//! What must come next, and what that takes.

use super::*;
use crate::common::alloc;

/// Bytes that following one grammar may take.
const MOST_BYTES: usize = 100 << 20;

fn gbnf(text: &str) -> GrammarSource {
    GrammarSource::Gbnf(text.into())
}

fn lark(text: &str) -> GrammarSource {
    GrammarSource::Lark(text.into())
}

/// Follows a grammar by a text: what it says next, or why it ends.
fn follow(source: &GrammarSource, text: &str) -> Result<Vec<u32>> {
    let mut m = Bytes::new().matcher(source)?;
    for b in text.bytes() {
        m.mask()?;
        m.accept(b.into())?;
    }
    m.mask()?;
    m.forced()
}

#[test]
fn more_than_fits_must_not_come_next() {
    let long = "x".repeat(200_000);
    for (source, text) in [
        (gbnf("root ::= \"x\"{9999}root"), ""),
        (gbnf("root ::= \"xy\" root"), ""),
        (gbnf("root ::= <[65]> \"x\"{9999} root"), "A"),
        (gbnf("root ::= a{900} b root | \"c\"\na ::= b{900} root?\nb ::= \"x\"{900}"), "x"),
        (lark("start: A~9999\nA: B~9999\nB: \"x\"~9999"), ""),
        (lark("start: a~99 | \"b\"\na: b~99\nb: \"xyz\"~99"), "x"),
        (lark("start: a a a a a a a a\na: b b b b b b b b\nb: c c c c c c c c\nc: d d d d d d d d\nd: \"xy\"~99"), ""),
        (lark("start: %json {\"type\": \"string\", \"minLength\": 1000000, \"pattern\": \"^x*$\"}"), "\""),
        (lark(&format!("start: \"{long}\"")), ""),
        (gbnf(&format!("root ::= \"{long}\"")), ""),
        (GrammarSource::Regex(long.clone()), ""),
        (GrammarSource::JsonSchema(json!({"const": long}).to_string()), ""),
        (GrammarSource::JsonSchema(json!({"enum": [1, format!("a{long}")]}).to_string()), "\"a"),
        (gbnf("root ::= \"(\" root \"y\"{9999} | \"z\""), &format!("{}z", "(".repeat(100))),
    ] {
        let (end, bytes) = alloc::peak(|| follow(&source, text).err());
        let told: String = format!("{source:?} {text:?}").chars().take(200).collect();
        assert_eq!(end.unwrap_or_else(|| panic!("{told} goes on")).kind(), ErrorKind::BadGrammar, "{told}");
        assert!(bytes < MOST_BYTES, "{told} takes {bytes} bytes");
    }
}

#[test]
fn what_must_come_next_ends_where_an_answer_can_end() {
    let long = "x".repeat(20_000);
    for (source, text, forced) in [
        (gbnf("root ::= (\"ab\"{1000})+"), "", 2000),
        (gbnf("root ::= \"ab\" root | \"ab\""), "", 2),
        (gbnf("root ::= \"a\"{9999}"), "aa", 9997),
        (gbnf("root ::= \"b\" (\"a\"{700} root)? | <[65]> \"c\""), "A", 1),
        (gbnf("root ::= \"é\"{10000}"), "", 20_000),
        (gbnf("root ::= \"(\" root \"y\"{99} | \"z\""), "((z", 198),
        (GrammarSource::JsonSchema(json!({"const": long}).to_string()), "", 20_002),
    ] {
        let told: String = format!("{source:?} {text:?}").chars().take(200).collect();
        assert_eq!(follow(&source, text).unwrap_or_else(|e| panic!("{told}: {e}")).len(), forced, "{told}");
    }
}
