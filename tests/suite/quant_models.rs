//! A small model in each block format, every matrix packed: logits of an implementation that widens to f32.

use pagelm::engine::Options;
use pollster::block_on;

use crate::common::backends::{self, Candidate};
use crate::common::fixtures;
use crate::common::golden::{max_diff, open};

/// As for the unquantised fixtures: the weights are the same numbers on both sides, so only f32 arithmetic differs
/// (two f32 implementations are 4e-5 apart on these).
fn tolerance(backend: &str) -> f32 {
    if backend == "webgpu" { 2e-3 } else { 3e-4 }
}

#[test]
fn every_block_format_gives_the_logits_of_its_widened_weights() {
    let numbers = fixtures::json("golden/quants/models.json");
    let list = |v: &serde_json::Value| -> Vec<f32> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let variants = numbers["variants"].as_object().unwrap();
    assert!(variants.len() >= 13);
    for (name, variant) in variants {
        let file = fixtures::bytes(&format!("golden/quants/{}", variant["gguf"].as_str().unwrap()));
        for Candidate { name: backend, make, .. } in backends::all() {
            let what = format!("{name} on {backend}");
            let opened = open(&file, make(), Options { n_ctx: Some(32), ..Options::default() });
            let mut session = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
            let prompts = numbers["prompts"].as_array().unwrap();
            for (ids, want) in prompts.iter().zip(variant["outputs"].as_array().unwrap()) {
                let ids: Vec<u32> = ids.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect();
                session.rollback(0).unwrap();
                let diff = max_diff(block_on(session.prefill(&ids)).unwrap(), &list(&want["logits_last"]["data"]));
                let tol = tolerance(session.backend().name());
                assert!(diff <= tol, "{what}: off by {diff:e}, more than {tol:e}");
            }
        }
    }
}
