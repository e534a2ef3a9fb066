//! What the command keeps between runs, and how it decodes several tokens at once.

use super::{golden, json};

const IDS: &str = "5,6,7,8,9,10,11,12";

#[test]
fn a_saved_state_is_gone_on_from_and_a_damaged_one_is_refused() {
    let folder = std::env::temp_dir().join(format!("pagelm-state-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let state = folder.join("state");
    let path = state.to_str().unwrap();
    for (name, other) in [("llama.gguf", "gemma3.gguf"), ("qwen35.gguf", "llama.gguf")] {
        let run = |model: &str, flags: &[&str], status| {
            let model = golden(model);
            let common = ["run", "--model", &model, "--backend", "cpu", "--ignore-eos", "--temperature", "0"];
            json(&[&common[..], flags].concat(), status)
        };
        let first = run(name, &["--ids", IDS, "--max-tokens", "5", "--save-state", path], 0);
        let answer: Vec<_> = first["tokens"].as_array().unwrap().iter().map(|t| t.to_string()).collect();
        let more = format!("{IDS},{},3", answer.join(","));
        let want = run(name, &["--ids", &more, "--max-tokens", "6"], 0);
        let got = run(name, &["--ids", &more, "--max-tokens", "6", "--load-state", path], 0);
        assert_eq!(got["tokens"], want["tokens"], "{name}");
        // The last token of the answer never ran.
        assert_eq!(
            (&got["usage"]["cached_tokens"], &want["usage"]["cached_tokens"]),
            (&12.into(), &0.into()),
            "{name}"
        );
        let refused = run(other, &["--ids", IDS, "--load-state", path], 1);
        assert_eq!(refused["error"]["code"], "bad-snapshot");
        let bytes = std::fs::read(&state).unwrap();
        std::fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
        let refused = run(name, &["--ids", IDS, "--load-state", path], 1);
        assert_eq!(refused["error"]["message"], "the file ends before the sequence does");
        assert_eq!(refused["error"]["place"], path);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn proposers_change_no_token_and_rows_are_counted() {
    let (model, draft) = (golden("qwen35_mtp.gguf"), format!("draft:{}", golden("qwen35_mtp.gguf")));
    let run = |flags: &[&str]| {
        let common = ["run", "--model", &model, "--ids", IDS, "--max-tokens", "12", "--ignore-eos", "--backend", "cpu"];
        json(&[&common[..], &["--temperature", "0"], flags].concat(), 0)
    };
    let want = run(&[]);
    for spec in ["lookup", "mtp", &draft] {
        let got = run(&["--spec", spec, "--max-draft", "3"]);
        assert_eq!(got["tokens"], want["tokens"], "{spec}");
        let count = |name: &str| got["usage"][name].as_u64().unwrap();
        assert_eq!(count("steps") + count("accepted_tokens"), 11, "{spec}: the first token comes with the prompt");
        assert_eq!(count("drafted_tokens") > 0, spec != "lookup", "{spec}");
    }
    let flags = ["--pp", "0", "--tg", "4", "--reps", "1", "--batch-rows", "1,3", "--backend", "cpu"];
    let out = json(&[&["bench", "--model", &model], &flags[..]].concat(), 0);
    let names: Vec<_> = out["tests"].as_array().unwrap().iter().map(|t| t["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["tg4", "tg4x3"]);
    // Rows of a step share all matrices; each has an embedding row of its own, of 64 values in f16.
    let bytes = |i: usize| out["tests"][i]["weight_bytes_per_token"].as_f64().unwrap();
    let (one, three, row) = (bytes(0), bytes(1), 128.0);
    assert!((three - ((one - row) / 3.0 + row)).abs() < 1.0, "{one} and {three}");
    // The same model proposes: five tokens a step. Its own block, which is random, costs and proposes nothing right.
    let tg = ["--pp", "0", "--tg", "10", "--reps", "1", "--backend", "cpu", "--spec"];
    let with = |spec: &str| json(&[&["bench", "--model", &model], &tg[..], &[spec, "--max-draft", "4"]].concat(), 0);
    let (right, wrong) = (with(&draft), with("mtp"));
    let read = |out: &serde_json::Value| out["tests"][0]["weight_bytes_per_token"].as_f64().unwrap();
    assert!(read(&right) < one / 2.0, "{right}");
    assert!(read(&wrong) > one, "{wrong}");
    for out in [right, wrong] {
        let (steps, done) = (out["tests"][0]["steps"].as_u64().unwrap(), &out["speculated"]);
        assert_eq!(done["steps"].as_u64().unwrap() + done["accepted"].as_u64().unwrap() + 1, 10, "{out}");
        assert!(steps > done["steps"].as_u64().unwrap(), "{out}");
    }
}
