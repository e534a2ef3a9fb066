//! Answers that must be of some form.

use super::*;

const SCHEMA: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer","minimum":0,
    "maximum":150},"kind":{"enum":["reader","writer"]}},"required":["name","age","kind"],"additionalProperties":false}"#;

/// The text of a run with these flags.
fn run(flags: &[&str], status: i32) -> Value {
    let model = golden("llama.gguf");
    let common = ["run", "--model", &model, "--prompt", "It is", "--backend", "cpu", "--temperature", "1"];
    json(&[&common[..], flags].concat(), status)
}

#[test]
fn random_weights_answer_with_what_a_schema_allows_whatever_the_seed() {
    let file = std::env::temp_dir().join(format!("pagelm-schema-{}.json", std::process::id()));
    std::fs::write(&file, SCHEMA).unwrap();
    let path = file.to_str().unwrap();
    let mut texts = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let schema = if seed % 2 == 0 { SCHEMA } else { path };
        let out = run(&["--seed", &seed.to_string(), "--json-schema", schema], 0);
        assert_eq!(out["stop_reason"], "end-of-sequence");
        let text = out["text"].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(value.as_object().unwrap().len(), 3, "{text}");
        assert!(value["name"].as_str().unwrap().chars().count() <= 8, "{text}");
        assert!(value["age"].as_u64().unwrap() <= 150, "{text}");
        assert!(["reader", "writer"].contains(&value["kind"].as_str().unwrap()), "{text}");
        texts.insert(text.to_owned());
    }
    std::fs::remove_file(file).unwrap();
    assert!(texts.len() > 10, "{texts:?}");
}

#[test]
fn expressions_and_grammars_say_what_an_answer_is() {
    let out = run(&["--regex", "(yes|no), [a-c]{3}"], 0);
    let text = out["text"].as_str().unwrap();
    let (word, rest) = text.split_once(", ").unwrap();
    assert!(
        ["yes", "no"].contains(&word) && rest.len() == 3 && rest.bytes().all(|b| (b'a'..=b'c').contains(&b)),
        "{text}"
    );
    let file = std::env::temp_dir().join(format!("pagelm-grammar-{}.lark", std::process::id()));
    std::fs::write(&file, "start: \"<\" WORD \">\"\nWORD: /[x-z]{2,5}/\n").unwrap();
    let text = run(&["--grammar", file.to_str().unwrap()], 0)["text"].as_str().unwrap().to_owned();
    std::fs::remove_file(&file).unwrap();
    assert!(text.starts_with('<') && text.ends_with('>') && (4..=7).contains(&text.len()), "{text}");
    assert_eq!(run(&["--grammar", file.to_str().unwrap()], 1)["error"]["code"], "io");
}

#[test]
fn the_name_of_a_grammar_says_which_notation_it_has() {
    let file = std::env::temp_dir().join(format!("pagelm-grammar-{}.gbnf", std::process::id()));
    std::fs::write(&file, "root ::= \"<\" [x-z]{2,5} \">\" # five at most\n").unwrap();
    let text = run(&["--grammar", file.to_str().unwrap()], 0)["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with('<') && text.ends_with('>') && (4..=7).contains(&text.len()), "{text}");
    std::fs::write(&file, "root ::= word").unwrap();
    let refused = run(&["--grammar", file.to_str().unwrap()], 1);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(refused["error"]["code"], "bad-grammar");
    assert!(refused["error"]["message"].as_str().unwrap().contains("`word` is not defined, in line 1"), "{refused}");
}

#[test]
fn a_schema_that_cannot_be_met_is_refused() {
    let refused = run(&["--json-schema", r#"{"type":"array","uniqueItems":true}"#], 1);
    assert_eq!(refused["error"]["code"], "bad-grammar");
    assert!(refused["error"]["message"].as_str().unwrap().contains("uniqueItems"), "{refused}");
    let model = golden("llama.gguf");
    let args = ["run", "--model", &model, "--prompt", "a", "--ignore-eos", "--regex", "a"];
    assert_eq!(pagelm(&args).status.code(), Some(2), "flags that contradict each other");
    let args = ["run", "--model", &model, "--prompt", "a", "--json-schema", "{}", "--regex", "a"];
    assert_eq!(pagelm(&args).status.code(), Some(2), "two grammars");
}
