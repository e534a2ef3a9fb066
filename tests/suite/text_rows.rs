//! What went wrong with texts, templates and stop strings in other engines, each by the number of its row in our list of
//! cases and with the inputs that failed there.

use pagelm::gguf::Value;
use pagelm::text::{ChatTemplate, EncodeOptions, RenderOptions, StopStrings, TextStream};
use serde_json::{Value as Json, json};

use super::text_chat::bytes_and;
use crate::common::conversation::value;

const PARSE: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const ADD: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

fn render(source: &str, variables: Json) -> String {
    let variables = variables.as_object().unwrap().iter().map(|(name, v)| (name.clone(), value(v))).collect();
    let options = RenderOptions { variables, ..Default::default() };
    ChatTemplate::new(source).unwrap().render(&value(&json!([])), &options).unwrap()
}

/// Sends `pieces` as tokens come, and says what is shown at each and at the end, and what stopped it.
fn stream(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<String>) {
    let mut stream = TextStream::new(StopStrings::new(stops).unwrap());
    let mut shown: Vec<String> = pieces.iter().map(|p| stream.push(p.as_bytes())).collect();
    shown.push(stream.finish());
    (shown, stream.stopped_by().map(str::to_owned))
}

#[test]
fn row_3_added_tokens_are_text_and_not_bytes_written_as_characters() {
    // In the alphabet of bytes, U+010D means a carriage return.
    let tokenizer = bytes_and(&[], &["čas"], vec![]);
    assert_eq!(tokenizer.decode(&[256], false), "čas".as_bytes());
    assert_eq!(tokenizer.encode("ačas", PARSE).unwrap(), [u32::from(b'a'), 256]);
    assert_eq!(tokenizer.encode("\r", PARSE).unwrap(), [u32::from(b'\r')]);
}

#[test]
fn row_4_a_token_may_be_a_part_of_a_character() {
    let tokenizer = bytes_and(&[], &[], vec![]);
    let ids = tokenizer.encode("♩", PARSE).unwrap();
    assert_eq!(ids.len(), 3);
    assert_eq!(String::from_utf8_lossy(&tokenizer.decode(&ids[1..], false)), "\u{FFFD}\u{FFFD}");
    let mut stream = TextStream::default();
    let shown: Vec<String> = ids.iter().map(|&id| stream.push(tokenizer.piece(id, false).unwrap())).collect();
    assert_eq!(shown, ["", "", "♩"]);
}

#[test]
fn row_5_a_character_of_four_tokens_is_shown_once_and_whole() {
    let bytes: Vec<&[u8]> = "😀".as_bytes().chunks(1).collect();
    let mut stream = TextStream::default();
    let shown: Vec<String> = bytes.iter().map(|b| stream.push(b)).collect();
    assert_eq!((shown, stream.finish().as_str()), (["", "", "", "😀"].map(String::from).to_vec(), ""));
    // A limit of tokens within it leaves one mark of what is missing, as decoders of UTF-8 do, and only at the end.
    let mut stream = TextStream::default();
    let shown: Vec<String> = bytes[..3].iter().map(|b| stream.push(b)).collect();
    assert_eq!((shown.concat().as_str(), stream.finish().as_str()), ("", "\u{FFFD}"));
}

#[test]
fn row_7_a_stop_string_may_be_a_marker_that_the_vocabulary_lacks() {
    let tokenizer = bytes_and(&[], &[], vec![]);
    let mut stream = TextStream::new(StopStrings::with_control(&["<|im_end|>"], &tokenizer).unwrap());
    let ids = tokenizer.encode("Hi.<|im_end|>\n<|im_start|>user", PARSE).unwrap();
    let shown: String = ids.iter().map(|&id| stream.push(tokenizer.piece(id, true).unwrap())).collect();
    assert_eq!((shown.as_str(), stream.stopped_by()), ("Hi.", Some("<|im_end|>")));
}

#[test]
fn row_8_two_markers_at_the_start_are_kept_where_none_is_added() {
    let more = || vec![("bos_token_id", Value::Uint(256)), ("add_bos_token", Value::Bool(false))];
    let tokenizer = bytes_and(&["[gMASK]", "<sop>"], &[], more());
    assert_eq!(tokenizer.encode("[gMASK]<sop>a", ADD).unwrap(), [256, 257, u32::from(b'a')]);
}

#[test]
fn row_9_a_raw_text_starts_as_the_file_says() {
    let a = u32::from(b'a');
    for (add, want) in [(Some(true), vec![256, a]), (Some(false), vec![a]), (None, vec![a])] {
        let mut more = vec![("bos_token_id", Value::Uint(256))];
        more.extend(add.map(|add| ("add_bos_token", Value::Bool(add))));
        assert_eq!(bytes_and(&["<bos>"], &[], more).encode("a", ADD).unwrap(), want, "{add:?}");
    }
}

#[test]
fn row_10_user_defined_words_are_one_token_wherever_they_stand() {
    let tokenizer = bytes_and(&[], &["[toxicity=0]"], vec![]);
    for options in [PARSE, EncodeOptions::default()] {
        assert_eq!(tokenizer.encode("[toxicity=0]", options).unwrap(), [256]);
        assert_eq!(tokenizer.encode("a[toxicity=0]", options).unwrap(), [u32::from(b'a'), 256]);
    }
}

#[test]
fn row_11_generation_tags_vanish_and_still_trim() {
    assert_eq!(render("a  {%- generation -%}  b  {%- endgeneration -%}  c", json!({})), "abc");
    assert_eq!(render("a {% generation %}b{% endgeneration %} c", json!({})), "a b c");
}

#[test]
fn row_12_a_number_after_a_dot_is_an_index() {
    let variables = json!({ "obj": ["x", "y"], "matrix": [[1, 2], [3, 4]] });
    assert_eq!(render("{{ obj.0 }}{{ matrix.0.1 }}{{ matrix[1].0 }}{{ matrix.1[1] }}", variables), "x234");
}

#[test]
fn row_13_signs_and_floor_division_are_those_of_python() {
    let variables = json!({ "axes": [-4], "a": 2 });
    assert_eq!(render("{% if 0 in axes or -4 in axes %}y{% endif %}", variables.clone()), "y");
    assert_eq!(
        render("{{ -(a + 1) }} {{ -1.5 }} {{ -0.0 }} {{ 7 // 2 }} {{ -7 // 2 }}", variables),
        "-3 -1.5 -0.0 3 -4"
    );
}

#[test]
fn row_14_tests_of_shape_and_the_filter_safe_are_known() {
    let variables = json!({ "m": { "a": 1 }, "l": [1], "s": "<&>" });
    let source = "{{ m is mapping }} {{ l is mapping }} {{ l is sequence }} {{ s is sequence }} {{ s | safe }}";
    assert_eq!(render(source, variables), "True False True True <&>");
}

#[test]
fn row_20_a_stop_string_over_several_tokens_is_cut_before() {
    let letters: Vec<String> = ('A'..='Z').map(|c| format!("{c} ")).collect();
    let pieces: Vec<&str> = letters.iter().map(String::as_str).collect();
    let (shown, stopped) = stream(&["O P Q"], &pieces);
    assert_eq!((shown.concat().as_str(), stopped.as_deref()), ("A B C D E F G H I J K L M N ", Some("O P Q")));
    let (shown, stopped) = stream(&["beta gamma"], &["alpha", " beta", " ", "gamma", " delta"]);
    assert_eq!((shown.concat().as_str(), stopped.as_deref()), ("alpha ", Some("beta gamma")));
    // One word of it alone is no stop.
    let (shown, stopped) = stream(&["beta gamma"], &["gamma", " beta", " delta"]);
    assert_eq!((shown.concat().as_str(), stopped), ("gamma beta delta", None));
}

#[test]
fn row_21_what_was_held_for_a_stop_string_is_shown_once() {
    let (shown, stopped) = stream(&["\n", "Alice:"], &["Al", "ice", "!", " Hi"]);
    assert_eq!((shown, stopped), (["", "", "Alice!", " Hi", ""].map(String::from).to_vec(), None));
    let (shown, stopped) = stream(&["\n"], &["Why", "?", "\n"]);
    assert_eq!((shown.concat().as_str(), stopped.as_deref()), ("Why?", Some("\n")));
}

#[test]
fn row_22_a_stop_string_after_a_character_of_several_bytes_cuts_between_characters() {
    let (shown, stopped) = stream(&["world"], &["hello ", "🌍", " wor", "ld"]);
    assert_eq!((shown.concat().as_str(), stopped.as_deref()), ("hello 🌍 ", Some("world")));
    let (shown, stopped) = stream(&["🌍"], &["hello ", "🌍 world"]);
    assert_eq!((shown.concat().as_str(), stopped.as_deref()), ("hello ", Some("🌍")));
}
