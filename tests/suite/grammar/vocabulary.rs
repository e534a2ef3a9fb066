//! Tokens and matchers.

use super::*;
use crate::common::byte_vocabulary::{ENDS, with};

fn set(m: &mut Matcher) -> Vec<u32> {
    let mask = m.mask().unwrap();
    (0..mask.len() as u32 * 32).filter(|id| mask[*id as usize / 32] >> (id % 32) & 1 == 1).collect()
}

fn regex(text: &str) -> GrammarSource {
    GrammarSource::Regex(text.into())
}

#[test]
fn all_tokens_that_end_a_text_are_let_through_at_the_end_and_only_there() {
    let mut m = Bytes::new().matcher(&regex("ab?")).unwrap();
    assert_eq!(set(&mut m), [u32::from(b'a')]);
    assert!(!m.may_stop().unwrap());
    m.accept(b'a'.into()).unwrap();
    assert_eq!(set(&mut m), [b'b'.into(), ENDS[0], ENDS[1]]);
    assert!(m.may_stop().unwrap() && !m.is_over());
    for end in ENDS {
        let mut m = m.clone();
        m.accept(end).unwrap();
        assert!(m.is_over());
        assert_eq!(set(&mut m), ENDS);
    }
    m.accept(b'b'.into()).unwrap();
    assert!(m.is_over(), "nothing can come after the last byte");
    assert_eq!(set(&mut m), ENDS);
}

#[test]
fn no_text_is_a_control_token_and_none_of_its_bytes_are() {
    // The names of both ends are text that the expression matches.
    let mut m = Bytes::new().matcher(&regex(r"<\|end\|>|.*")).unwrap();
    let allowed = set(&mut m);
    assert!(allowed.contains(&b'<'.into()));
    assert!("<|end|>".bytes().all(|b| m.accept(b.into()).is_ok()));
    assert!(m.may_stop().unwrap());
    let mut m = Bytes::new().matcher(&regex(r"<\|end\|>")).unwrap();
    assert_eq!(set(&mut m), [u32::from(b'<')], "a control token is not its name");
}

#[test]
fn tokens_of_several_bytes_are_let_through_where_all_their_bytes_are() {
    let tokenizer = with(&["tr", "true", "truex", "ue"]);
    let mut v = Vocabulary::new(&tokenizer).unwrap();
    let mut m = v.grammar(&GrammarSource::JsonSchema(r#"{"type":"boolean"}"#.into())).unwrap().matcher();
    assert_eq!(set(&mut m), [b'f'.into(), b't'.into(), 258, 259]);
    assert_eq!(m.allows(&[258, 261, ENDS[1]]).unwrap(), 3);
    assert_eq!(m.allows(&[258, 261, b' '.into()]).unwrap(), 2);
    assert_eq!(m.allows(&[260]).unwrap(), 0);
    assert_eq!(m.allows(&[u32::MAX]).unwrap(), 0);
    assert!(v.is_of(&tokenizer.clone()) && !v.is_of(&with(&[])));
}

#[test]
fn what_must_come_next_is_known() {
    let schema = json!({"type": "object", "properties": {"name": {"enum": ["xa", "xb"]}}, "required": ["name"],
        "additionalProperties": false});
    let mut v = Vocabulary::new(&with(&[])).unwrap();
    let mut m = v.grammar(&GrammarSource::JsonSchema(schema.to_string())).unwrap().matcher();
    assert_eq!(m.forced().unwrap(), [u32::from(b'{')], "white space may follow");
    m.accept(b'{'.into()).unwrap();
    assert_eq!(m.forced().unwrap(), [0; 0]);
    m.accept(b'"'.into()).unwrap();
    let bytes = |ids: Vec<u32>| ids.into_iter().map(|id| char::from(id as u8)).collect::<String>();
    let ids = m.forced().unwrap();
    assert_eq!(bytes(ids.clone()), "name\"");
    assert_eq!(m.forced().unwrap(), ids, "asking changes nothing");
    ids.into_iter().for_each(|id| m.accept(id).unwrap());
    ": \"".bytes().for_each(|b| m.accept(b.into()).unwrap());
    assert_eq!(bytes(m.forced().unwrap()), "x");
}

#[test]
fn what_was_accepted_can_be_taken_back() {
    let mut m = Bytes::new().matcher(&regex("(ab|ac)d?")).unwrap();
    let start = set(&mut m);
    let mut masks = Vec::new();
    for id in [b'a'.into(), b'c'.into(), b'd'.into(), ENDS[0], ENDS[1]] {
        masks.push(set(&mut m));
        m.accept(id).unwrap();
    }
    for n in 1..=5 {
        let mut m = m.clone();
        m.rollback(n).unwrap();
        assert_eq!(set(&mut m), masks[5 - n], "after {n} tokens were taken back");
    }
    let e = m.clone().rollback(6).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    m.rollback(5).unwrap();
    assert_eq!(set(&mut m), start);
    assert!(accepts(&m, "abd"), "and another way was taken");
}

#[test]
fn a_token_that_cannot_come_next_is_refused_and_changes_nothing() {
    let mut m = Bytes::new().matcher(&regex("ab")).unwrap();
    for id in [u32::from(b'b'), ENDS[0], 258, u32::MAX] {
        assert_eq!(m.accept(id).unwrap_err().kind(), ErrorKind::InvalidArgument, "token {id}");
    }
    assert!(accepts(&m, "ab"));
}

#[test]
fn clones_go_on_by_themselves() {
    let mut one = Bytes::new().matcher(&regex("a(b|c)")).unwrap();
    one.accept(b'a'.into()).unwrap();
    let mut two = one.clone();
    one.accept(b'b'.into()).unwrap();
    assert!(one.is_over() && !two.is_over());
    two.accept(b'c'.into()).unwrap();
    assert!(two.is_over());
}

#[test]
fn a_vocabulary_that_cannot_write_the_answer_is_refused() {
    use pagelm::gguf::{Array, Meta, Strings, Value as Key};
    let mut tokens = Strings::default();
    ["a", "b"].iter().for_each(|t| tokens.push(t.as_bytes()));
    let mut meta = Meta::default();
    for (name, value) in [
        ("model", Key::String("gpt2".into())),
        ("pre", Key::String("gpt-2".into())),
        ("tokens", Key::Array(Array::Strings(tokens))),
        ("merges", Key::Array(Array::Strings(Strings::default()))),
    ] {
        meta.insert(format!("tokenizer.ggml.{name}"), value);
    }
    let tokenizer = pagelm::text::Tokenizer::from_gguf(&meta).unwrap();
    let mut v = Vocabulary::new(&tokenizer).unwrap();
    assert_eq!(v.grammar(&GrammarSource::JsonObject).err().unwrap().kind(), ErrorKind::BadGrammar);
    let mut m = v.grammar(&regex("ab*")).unwrap().matcher();
    assert_eq!(m.forced().unwrap(), [0; 0], "not all bytes have a token");
    m.accept(0).unwrap();
    assert_eq!((set(&mut m), m.may_stop().unwrap()), (vec![1], true), "there is no token that ends a text");
}
