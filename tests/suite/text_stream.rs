//! Streamed text: whole characters, and stop strings that are never shown.

use pagelm::text::{StopStrings, TextStream};
use proptest::prelude::*;

fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, Option<String>) {
    let mut stream = TextStream::new(StopStrings::new(stops).unwrap());
    let mut out: Vec<String> = pieces.iter().map(|p| stream.push(p)).collect();
    out.push(stream.finish());
    (out, stream.stopped_by().map(str::to_owned))
}

#[test]
fn half_a_character_waits_for_its_other_half() {
    let (out, _) = run(&[], &[b"a\xC3", b"\xA9\xF0\x9F", b"\x98", b"\x80!"]);
    assert_eq!(out, ["a", "é", "", "😀!", ""]);
}

#[test]
fn bytes_that_can_be_no_character_are_replaced_at_once() {
    let (out, _) = run(&[], &[b"\xFF", b"a\xC3", b"b", b"\xE2\x82"]);
    assert_eq!(out, ["\u{FFFD}", "a", "\u{FFFD}b", "", "\u{FFFD}"]);
}

#[test]
fn the_start_of_a_stop_string_is_held_until_it_is_decided() {
    let (out, stopped) = run(&["STOP"], &[b"go S", b"TO", b"NE", b" ST"]);
    assert_eq!((out, stopped), (vec!["go ".into(), "".into(), "STONE".into(), " ".into(), "ST".into()], None));
}

#[test]
fn a_stop_string_over_many_tokens_ends_the_stream() {
    let (out, stopped) = run(&["<end>"], &[b"text<", b"e", b"n", b"d", b">more", b"and more"]);
    assert_eq!(out.concat(), "text");
    assert_eq!(stopped.as_deref(), Some("<end>"));
}

#[test]
fn a_stop_string_within_one_token_ends_the_stream() {
    let (out, stopped) = run(&["\n\n"], &[b"one\n\ntwo"]);
    assert_eq!((out.concat(), stopped.as_deref()), ("one".into(), Some("\n\n")));
}

#[test]
fn overlapping_starts_are_all_followed() {
    assert_eq!(run(&["aab"], &[b"a", b"a", b"a", b"b"]).0.concat(), "a");
    assert_eq!(run(&["abab!"], &[b"ab", b"ab", b"ab", b"!"]).0.concat(), "ab");
}

#[test]
fn of_several_stop_strings_the_first_complete_one_counts() {
    let (out, stopped) = run(&["abcd", "bc"], &[b"xabcd"]);
    assert_eq!((out.concat(), stopped.as_deref()), ("xa".into(), Some("bc")));
    let (out, stopped) = run(&["bc", "abc"], &[b"xabc"]);
    assert_eq!((out.concat(), stopped.as_deref()), ("x".into(), Some("abc")));
}

#[test]
fn an_empty_stop_string_is_refused() {
    assert_eq!(StopStrings::new(&["x", ""]).unwrap_err().code(), "invalid-argument");
}

#[test]
fn a_replaced_byte_can_be_part_of_a_stop_string() {
    assert_eq!(run(&["\u{FFFD}"], &[b"a\xC3"]).0.concat(), "a");
}

/// What a stream must put out in total: the lossy text up to the stop string that ends first, of those the longest.
fn expected(bytes: &[u8], stops: &[String]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let ends = stops.iter().filter_map(|s| text.find(s.as_str()).map(|at| (at + s.len(), at)));
    match ends.min() {
        Some((_, at)) => text[..at].to_owned(),
        None => text,
    }
}

fn cut(bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for &len in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, tail) = rest.split_at(len.min(rest.len()));
        pieces.push(piece.to_vec());
        rest = tail;
    }
    pieces
}

fn check(bytes: &[u8], lengths: &[usize], stops: &[String]) -> Result<(), TestCaseError> {
    let mut stream = TextStream::new(StopStrings::new(stops).unwrap());
    let mut out: String = cut(bytes, lengths).iter().map(|p| stream.push(p)).collect();
    out += &stream.finish();
    prop_assert_eq!(out, expected(bytes, stops));
    Ok(())
}

proptest! {
    #[test]
    fn any_cut_of_any_bytes_gives_the_same_text(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..0xC0u8, 0xE0..0xF5u8], 0..64),
        lengths in prop::collection::vec(1..5usize, 1..8),
    ) {
        check(&bytes, &lengths, &[])?;
    }

    #[test]
    fn any_cut_of_a_text_stops_at_the_same_place(
        text in "[abé]{0,40}",
        lengths in prop::collection::vec(1..5usize, 1..8),
        stops in prop::collection::vec("[abé]{1,5}", 0..4),
    ) {
        check(text.as_bytes(), &lengths, &stops)?;
    }
}

#[test]
fn control_tokens_are_parts_of_stop_strings_and_no_text() {
    use pagelm::gguf::{Array, Meta, Strings, Value};
    use pagelm::text::Tokenizer;
    let mut tokens = Strings::default();
    ["a", "<|x|>", "<|y|>"].iter().for_each(|t| tokens.push(t.as_bytes()));
    let mut meta = Meta::default();
    for (name, value) in [
        ("model", Value::String("gpt2".into())),
        ("pre", Value::String("gpt-2".into())),
        ("tokens", Value::Array(Array::Strings(tokens))),
        ("token_type", Value::Array(Array::Int(vec![1, 3, 3]))),
        ("merges", Value::Array(Array::Strings(Strings::default()))),
    ] {
        meta.insert(format!("tokenizer.ggml.{name}"), value);
    }
    let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
    // Numbers are control tokens.
    let run = |stops: &[&str], pieces: &[&str]| {
        let mut stream = TextStream::new(StopStrings::with_control(stops, &tokenizer).unwrap());
        let push = |p: &&str| match p.parse() {
            Ok(id) => stream.push_control(id),
            Err(_) => stream.push(p.as_bytes()),
        };
        let mut out: String = pieces.iter().map(push).collect();
        out += &stream.finish();
        (out, stream.stopped_by().map(str::to_owned))
    };
    let stopped = |text: &str, by: &str| (text.to_owned(), Some(by.to_owned()));
    assert_eq!(run(&["<|x|>"], &["text", "1", "more"]), stopped("text", "<|x|>"));
    assert_eq!(run(&["<|x|>"], &["te<|x", "|>t", "more"]), stopped("te", "<|x|>"));
    assert_eq!(run(&["bc<|x|>de"], &["ab", "c", "1", "d", "ef"]), stopped("a", "bc<|x|>de"));
    assert_eq!(run(&["bc<|x|>de"], &["ab", "c", "1", "d", "f"]), ("abcdf".to_owned(), None));
    assert_eq!(run(&["b<|x|><|y|>"], &["ab", "1", "1", "b", "1", "2", "z"]), stopped("ab", "b<|x|><|y|>"));
    assert_eq!(run(&["ab", "a<|x|>"], &["a", "1", "b"]), stopped("", "a<|x|>"));
    assert_eq!(run(&["x|>", "<|"], &["a", "1", "b"]), ("ab".to_owned(), None));
    assert_eq!(run(&["é<|x|>"], &["a", "é", "1"]), stopped("a", "é<|x|>"));
}
