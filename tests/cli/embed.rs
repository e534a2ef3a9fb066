//! What the command says of texts and of tokens beside the tokens themselves.

use super::{golden, json};

#[test]
fn texts_become_vectors_by_the_file_or_by_flags() {
    let model = golden("gemma-embedding.gguf");
    let common = ["embed", "--model", &model, "--backend", "cpu"];
    let texts = ["--text", "Hello, world", "--text", "a"];
    let out = json(&[&common[..], &texts].concat(), 0);
    assert_eq!(out["pooling"], "mean");
    let all = out["embeddings"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    for one in all {
        let values: Vec<f64> = one["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(values.len(), 64);
        assert!((values.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-5);
    }
    let cut = json(&[&common[..], &texts, &["--dimensions", "8", "--pooling", "none"]].concat(), 0);
    for one in cut["embeddings"].as_array().unwrap() {
        let tokens = one["tokens"].as_u64().unwrap() as usize;
        assert_eq!(one["embedding"].as_array().unwrap().len(), 8 * tokens, "a vector for each token");
    }
    let refused = json(&[&common[..], &texts, &["--dimensions", "65"]].concat(), 1);
    assert_eq!(refused["error"]["code"], "invalid-argument");
    let refused = json(&["run", "--model", &model, "--backend", "cpu", "--prompt", "Hello"], 1);
    assert_eq!(refused["error"]["code"], "invalid-state");
    // A model that generates has vectors too: of the last token, unless told otherwise.
    let out = json(&["embed", "--model", &golden("llama.gguf"), "--backend", "cpu", "--text", "Hello"], 0);
    assert_eq!((&out["pooling"], out["embeddings"][0]["embedding"].as_array().unwrap().len()), (&"last".into(), 96));
}

#[test]
fn tokens_come_with_how_likely_they_were() {
    let model = golden("llama.gguf");
    let common = ["run", "--model", &model, "--ids", "5,6,7", "--max-tokens", "4", "--ignore-eos", "--backend", "cpu"];
    let out = json(&[&common[..], &["--temperature", "0", "--logprobs", "3"]].concat(), 0);
    let (tokens, said) = (out["tokens"].as_array().unwrap(), out["logprobs"].as_array().unwrap());
    assert_eq!((tokens.len(), said.len()), (4, 4));
    for (token, of) in tokens.iter().zip(said) {
        assert_eq!((of["top"].as_array().unwrap().len(), &of["top"][0][0]), (3, token));
        assert!(of["logprob"] == of["top"][0][1] && of["logprob"].as_f64().unwrap() <= 0.0);
    }
    let refused = json(&[&common[..], &["--logprobs", "21"]].concat(), 1);
    assert_eq!(refused["error"]["code"], "invalid-argument");
}
