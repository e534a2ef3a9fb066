//! `pagelm inspect`.

use super::{golden, json};

#[test]
fn inspect_tells_what_is_in_a_file_and_whether_it_runs() {
    let model = golden("llama32.gguf");
    let out = json(&["inspect", "--model", &model, "--backend", "cpu", "--ctx", "100"], 0);
    assert_eq!((&out["architecture"], &out["runs"]["ok"]), (&"llama".into(), &true.into()));
    assert_eq!((&out["runs"]["ctx"], &out["metadata"]["llama.block_count"]), (&100.into(), &3.into()));
    assert!(out["metadata"]["tokenizer.ggml.tokens"]["length"].as_u64().unwrap() > 100, "long arrays are cut");
    assert!(out["types"]["F32"]["tensors"].as_u64().unwrap() > 0);
}

#[test]
fn inspect_says_with_which_options_a_model_fits_and_then_it_runs() {
    let model = golden("llama32.gguf");
    let much = ["--model", &model, "--backend", "cpu", "--ctx", "2000000", "--memory", "64"];
    let refused = json(&[&["inspect"], &much[..]].concat(), 0)["runs"].clone();
    assert_eq!((&refused["ok"], &refused["error"]["code"]), (&false.into(), &"out-of-memory".into()));
    let runs = json(&[&["inspect", "--fit"], &much[..]].concat(), 0)["runs"].clone();
    assert_eq!((&runs["ok"], &runs["kv_type"]), (&true.into(), &"q8_0".into()), "{runs}");
    let codes: Vec<_> = runs["changes"].as_array().unwrap().iter().map(|c| c["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["kv-type", "context-length"]);
    let ctx = runs["ctx"].to_string();
    let fitting = ["--model", &model, "--backend", "cpu", "--ctx", &ctx, "--kv-type", "q8_0", "--memory", "64"];
    json(&[&["run", "--ids", "1", "--max-tokens", "1"], &fitting[..]].concat(), 0);
}
