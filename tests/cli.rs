//! The command as its users meet it: what it prints, and how it exits.

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/calls.rs"]
mod calls;
#[path = "common/checkpoint.rs"]
mod checkpoint;
#[path = "cli/embed.rs"]
mod embed;
#[path = "cli/folder.rs"]
mod folder;
#[path = "common/gguf_writer.rs"]
#[allow(dead_code, reason = "the suite uses all of it")]
mod gguf_writer;
#[path = "cli/grammar.rs"]
mod grammar;
#[path = "cli/images.rs"]
mod images;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/real.rs"]
mod real;
#[path = "cli/sequences.rs"]
mod sequences;
#[path = "cli/serve.rs"]
mod serve;
#[path = "common/skipped.rs"]
mod skipped;
#[path = "cli/store.rs"]
mod store;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// A file of reference data of the clone.
fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests").join(name);
    assert!(path.exists(), "{} is missing; is the clone complete?", path.display());
    path.to_str().expect("a UTF-8 path").to_string()
}

fn golden(name: &str) -> String {
    fixture(&format!("golden/{name}"))
}

/// A downloaded model, which may be missing.
fn model(name: &str) -> Option<String> {
    Some(skipped::unless_downloaded(name)?.to_str().expect("a UTF-8 path").to_string())
}

fn pagelm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pagelm")).args(args).output().expect("the command starts")
}

/// Runs with `--json`, checks the exit status, and gives the last line of stdout.
fn json(args: &[&str], status: i32) -> Value {
    let out = pagelm(&[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(status), "{args:?}: {stderr}");
    let stdout = String::from_utf8(out.stdout).expect("UTF-8");
    let last = stdout.lines().last().unwrap_or_else(|| panic!("{args:?} printed nothing: {stderr}"));
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{args:?}: {e} in {last}"))
}

#[test]
fn run_continues_ids_with_the_tokens_of_the_reference() {
    let (model, numbers) = (golden("llama.gguf"), golden("llama.json"));
    let numbers: Value = serde_json::from_str(&std::fs::read_to_string(numbers).unwrap()).unwrap();
    let prompt = &numbers["prompts"][0];
    let ids = prompt["ids"].as_array().unwrap().iter().map(Value::to_string).collect::<Vec<_>>().join(",");
    for backend in ["reference", "cpu"] {
        let flags = ["--max-tokens", "16", "--ignore-eos", "--temperature", "0", "--backend", backend];
        let out = json(&[&["run", "--model", &model, "--ids", &ids], &flags[..]].concat(), 0);
        assert_eq!(out["prompt_ids"], prompt["ids"]);
        assert_eq!(out["tokens"], prompt["greedy"]["tokens"]);
        assert_eq!((&out["stop_reason"], &out["backend"]), (&"max-tokens".into(), &backend.into()));
        assert_eq!((&out["usage"]["prompt_tokens"], &out["usage"]["completion_tokens"]), (&5.into(), &16.into()));
        assert!(out["text"].is_string());
    }
}

#[test]
fn run_streams_the_text_that_the_json_has() {
    let model = golden("llama.gguf");
    let args = ["run", "--model", &model, "--prompt", "Hello", "--max-tokens", "8", "--backend", "cpu"];
    let text = String::from_utf8(pagelm(&args).stdout).unwrap();
    assert_eq!(text, format!("{}\n", json(&args, 0)["text"].as_str().unwrap()));
}

#[test]
fn golden_exits_with_1_where_numbers_disagree() {
    let file = golden("llama.json");
    let agree = json(&["golden", &file, "--backend", "cpu"], 0);
    assert_eq!(agree["ok"], true);
    assert_eq!(agree["files"][0]["result"]["prompts"][1]["greedy_matched"], 16);
    let differ = json(&["golden", &file, "--backend", "cpu", "--tol", "1e-12"], 1);
    assert_eq!(differ["ok"], false);
}

/// The backends that this machine is expected to have.
fn backends() -> Vec<&'static str> {
    let all = ["reference", "cpu", "gpu"];
    if std::env::var_os("PAGELM_NO_GPU").is_none_or(|v| v != "1") {
        return all.to_vec();
    }
    skipped::list("PAGELM_NO_GPU is 1: the GPU backend is not tested");
    all[..2].to_vec()
}

#[test]
fn golden_runs_every_fixture_whole() {
    let folder = golden("");
    let listed = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = listed.filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    files.sort();
    let paths: Vec<&str> = files.iter().map(|p| p.to_str().unwrap()).collect();
    assert!(paths.len() >= 15, "{paths:?}");
    for backend in backends() {
        let out = json(&[&["golden", "--backend", backend][..], &paths].concat(), 0);
        let results = out["files"].as_array().unwrap();
        assert_eq!(results.len(), paths.len());
        for (path, file) in paths.iter().zip(results) {
            assert_eq!((file["file"].as_str(), file["ok"].as_bool()), (Some(*path), Some(true)), "{backend}");
            let name = PathBuf::from(path).file_stem().unwrap().to_str().unwrap().to_string();
            let ran = |key: &str| file["result"][key].as_array().map_or(0, Vec::len);
            match name.as_str() {
                "smart_resize" => assert!(file["result"]["matched"].as_u64() > Some(10), "{file}"),
                "qwen3vl" | "qwen35vl" | "gemma3vl" => assert_eq!(ran("cases"), 2, "{file}"),
                "gemma-embedding" => {
                    assert_eq!(ran("prompts"), 3, "{name}: {file}");
                    assert_eq!(file["result"]["prompts"][2]["ok"], true);
                }
                _ => {
                    assert_eq!(ran("prompts"), 3, "{name}");
                    let all = file["result"]["prompts"].as_array().unwrap().iter();
                    let steps = all.map(|p| (p["greedy_matched"].as_u64(), p["greedy_total"].as_u64()));
                    assert_eq!(steps.collect::<Vec<_>>(), [16, 16, 0].map(|n| (Some(n), Some(n))), "{name}");
                    assert_eq!(ran("mtp"), if name == "qwen35_mtp" { 2 } else { 0 }, "{name}");
                }
            }
        }
    }
}

#[test]
fn golden_refuses_a_file_that_is_no_whole_fixture_and_runs_the_others() {
    let (model, good) = (golden("llama.gguf"), golden("llama.json"));
    let folder = Folder::new("malformed");
    folder.write("llama.gguf", std::fs::read(model).unwrap());
    let whole: Value = serde_json::from_str(&std::fs::read_to_string(&good).unwrap()).unwrap();
    let with = |change: fn(&mut Value)| {
        let mut v = whole.clone();
        change(&mut v);
        v.to_string()
    };
    let broken = [
        ("cut", whole.to_string()[..5000].to_string()),
        ("no keys", "{}".to_string()),
        ("a list of numbers", "[1, 2]".to_string()),
        ("no prompts", with(|v| v["prompts"] = serde_json::json!([]))),
        ("no logits", with(|v| drop(v["prompts"][0].as_object_mut().unwrap().remove("logits_last")))),
        ("no ids", with(|v| v["prompts"][1]["ids"] = serde_json::json!([]))),
        ("a row short", with(|v| v["prompts"][0]["ids"].as_array_mut().unwrap().push(3.into()))),
        ("values short", with(|v| drop(v["prompts"][0]["logits_all"]["data"].as_array_mut().unwrap().pop()))),
        (
            "an empty block",
            with(|v| {
                v["mtp"] = serde_json::json!([{ "ids": [], "next_ids": [], "argmax": [],
            "logits_all": { "shape": [0, 5], "data": [] } }])
            }),
        ),
    ];
    for (what, text) in broken {
        folder.write("broken.json", text);
        let path = format!("{}/broken.json", folder.path());
        let out = json(&["golden", &path, &good, "--backend", "cpu"], 1);
        let files = out["files"].as_array().unwrap();
        assert_eq!(files[0]["result"]["error"]["code"], "invalid-argument", "{what}: {out}");
        assert_eq!(files[0]["result"]["error"]["place"], path, "{what}");
        assert_eq!((&files[0]["ok"], &files[1]["ok"]), (&false.into(), &true.into()), "{what}");
    }
    // An architecture that does not run.
    let mut bytes = std::fs::read(golden("llama.gguf")).unwrap();
    let at = bytes.windows(20).position(|w| w == b"general.architecture").unwrap();
    let value = at + bytes[at..].windows(5).position(|w| w == b"llama").unwrap();
    bytes[value..value + 5].copy_from_slice(b"mamba");
    folder.write("llama.gguf", bytes);
    folder.write("text.json", whole.to_string());
    let out = json(&["golden", &format!("{}/text.json", folder.path()), "--backend", "cpu"], 1);
    assert_eq!(out["files"][0]["result"]["error"]["code"], "unsupported-architecture");
    for nothing in ["--prompts", "--steps"] {
        let out = json(&["golden", &good, nothing, "0", "--backend", "cpu"], 1);
        assert_eq!(out["error"]["code"], "invalid-argument");
    }
    let missing = json(&["golden", "no/such.json", "--backend", "cpu"], 1);
    assert_eq!(missing["files"][0]["result"]["error"]["code"], "io");
}

#[test]
fn bench_counts_what_a_token_costs() {
    let model = golden("llama.gguf");
    let flags = ["--pp", "8,16", "--tg", "4", "--depth", "0,8", "--reps", "2", "--backend", "cpu"];
    let out = json(&[&["bench", "--model", &model], &flags[..]].concat(), 0);
    let names: Vec<_> = out["tests"].as_array().unwrap().iter().map(|t| t["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp8", "pp16", "tg4", "pp8@8", "pp16@8", "tg4@8"]);
    assert!(out["tests"].as_array().unwrap().iter().all(|t| t["tokens_per_s"]["median"].as_f64().unwrap() > 0.0));
    assert!(out["counters"]["weight_bytes_per_token"].as_f64().unwrap() > 0.0);
    let steps: Vec<_> = out["tests"].as_array().unwrap().iter().map(|t| t["steps"].as_u64()).collect();
    assert_eq!(steps, [None, None, Some(4), None, None, Some(4)], "of those that decode");
    assert!(out["counters"]["dispatches_per_token"].is_number());
    assert!(out["memory"]["weights"].as_u64().unwrap() > 0);
}

#[test]
fn a_profile_has_each_kernel_of_a_token_with_its_time_and_the_weights_it_reads() {
    let model = golden("llama.gguf");
    let out = json(&["bench", "--profile", "--model", &model, "--backend", "cpu"], 1);
    assert_eq!(out["error"]["code"], "invalid-argument");
    if !backends().contains(&"gpu") {
        return;
    }
    let on_gpu = |flags: &[&str]| json(&[&["bench", "--model", &model, "--backend", "gpu"], flags].concat(), 0);
    let profile = &on_gpu(&["--profile", "--depth", "5", "--reps", "2"])["profile"];
    let kernels = profile["kernels"].as_array().unwrap();
    let sum = |key: &str| kernels.iter().map(|k| k[key].as_f64().unwrap()).sum::<f64>();
    // The same as a decoded token, but for the choice of the next one, which takes two.
    let counters = &on_gpu(&["--pp", "0", "--tg", "4", "--reps", "1"])["counters"];
    assert_eq!(sum("dispatches_per_token") + 2.0, counters["dispatches_per_token"].as_f64().unwrap());
    let all_but_embedding = counters["weight_bytes_per_token"].as_f64().unwrap();
    assert!(sum("weight_bytes_per_token") > 0.9 * all_but_embedding, "{profile}");
    assert!(profile["read_bytes_per_s"].as_f64().unwrap() > 0.0);
    let reads = kernels.iter().filter(|k| k["weight_bytes_per_token"].as_f64().unwrap() > 0.0);
    assert!(reads.clone().count() > 0 && reads.into_iter().all(|k| k["fraction_of_read"].as_f64().unwrap() > 0.0));
}

#[test]
fn synth_writes_a_file_of_the_shape_that_was_asked_for_and_the_engine_takes_it() {
    let file = std::env::temp_dir().join(format!("pagelm-synth-{}.gguf", std::process::id()));
    let path = file.to_str().unwrap();
    let made = json(&["synth", "--shape", "qwen3-0.6b", "--type", "Q4_K_M", "--out", path], 0);
    let out = json(&["inspect", "--model", path, "--backend", "cpu", "--ctx", "64"], 0);
    let odd = json(&["synth", "--shape", "qwen3-0.6b", "--type", "Q9", "--out", path], 1);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(made["bytes"], out["bytes"]);
    assert_eq!((&out["architecture"], &out["runs"]["ok"]), (&"qwen3".into(), &true.into()));
    assert_eq!(out["metadata"]["qwen3.block_count"], 28);
    let tensors = |kind: &str| out["types"][kind]["tensors"].as_u64().unwrap();
    // Half of the values and of the down projections, and the embedding, are Q6_K.
    assert_eq!((tensors("Q4_K") + tensors("Q6_K"), tensors("Q6_K")), (28 * 7 + 1, 29));
    assert_eq!(odd["error"]["code"], "invalid-argument");
}

#[test]
fn synth_writes_experts_that_the_engine_takes() {
    let file = std::env::temp_dir().join(format!("pagelm-synth-experts-{}.gguf", std::process::id()));
    let path = file.to_str().unwrap();
    json(&["synth", "--shape", "qwen3-30b-a3b-4l", "--type", "Q2_K", "--out", path], 0);
    let out = json(&["inspect", "--model", path, "--backend", "cpu", "--ctx", "64"], 0);
    std::fs::remove_file(&file).unwrap();
    assert_eq!((&out["architecture"], &out["runs"]["ok"]), (&"qwen3moe".into(), &true.into()));
    let tensors = |kind: &str| out["types"][kind]["tensors"].as_u64().unwrap();
    // The router and four norms of each layer are F32, and the last norm.
    assert_eq!((tensors("Q2_K"), tensors("F32")), (4 * 7 + 1, 4 * 5 + 1));
}

#[test]
fn a_file_with_unknown_content_runs_only_where_that_is_allowed() {
    let model = golden("llama.gguf");
    let mut file = std::fs::read(&model).unwrap();
    // One key more, of 32 bytes, so that the tensors stay aligned: its name, its type (u32) and its value.
    let key = b"prism.hadamard.x";
    let entry = [&(key.len() as u64).to_le_bytes()[..], key, &4u32.to_le_bytes(), &128u32.to_le_bytes()].concat();
    file[16] += 1;
    file.splice(24..24, entry);
    let folder = Folder::new("unknown");
    folder.write("m.gguf", file);
    let path = format!("{}/m.gguf", folder.path());
    let run =
        ["run", "--model", &path, "--ids", "1,5,9", "--max-tokens", "4", "--temperature", "0", "--backend", "cpu"];
    let refused = json(&run, 1);
    assert_eq!(refused["error"]["code"], "unknown-content");
    assert!(refused["error"]["message"].as_str().unwrap().contains("`prism.hadamard.x` = 128"), "{refused}");
    let inspect = json(&["inspect", "--model", &path, "--backend", "cpu"], 0);
    assert_eq!((&inspect["runs"]["ok"], &inspect["runs"]["error"]["code"]), (&false.into(), &"unknown-content".into()));
    let allowed = json(&[&run[..], &["--allow-unknown"]].concat(), 0);
    let plain = json(&[&["run", "--model", &model], &run[3..]].concat(), 0);
    assert_eq!(allowed["tokens"], plain["tokens"]);
    assert_eq!(json(&["inspect", "--model", &path, "--backend", "cpu", "--allow-unknown"], 0)["runs"]["ok"], true);
    let check = ["check", "--model", &path, "--ids", "1,5", "--backend", "cpu"];
    assert_eq!(json(&check, 1)["error"]["code"], "unknown-content");
    json(&[&check[..], &["--allow-unknown"]].concat(), 0);
}

#[test]
fn errors_have_a_code_and_exit_with_1_and_wrong_usage_exits_with_2() {
    let missing = json(&["run", "--model", "no/such.gguf", "--prompt", "x", "--backend", "cpu"], 1);
    assert_eq!((&missing["error"]["code"], &missing["error"]["place"]), (&"io".into(), &"no/such.gguf".into()));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let other = json(&["inspect", "--model", manifest, "--backend", "cpu"], 1);
    assert_eq!(other["error"]["code"], "not-gguf");
    let model = golden("llama.gguf");
    let out = json(&["run", "--model", &model, "--ids", "1,99999", "--backend", "cpu"], 1);
    assert_eq!(out["error"]["code"], "token-out-of-range");
    for (flag, value) in [("--temperature", "-1"), ("--temperature", "nan"), ("--top-p", "2"), ("--min-p", "nan")] {
        let args = ["run", "--model", &model, "--ids", "1", "--backend", "cpu", flag, value];
        let error = &json(&args, 1)["error"];
        assert_eq!(error["code"], "invalid-argument");
        let name = flag.trim_start_matches('-').replace('-', "_");
        assert!(error["message"].as_str().is_some_and(|m| m.contains(&name)), "{error}");
    }
    for args in [&["run", "--model", "x"][..], &["run", "--model", "x", "--ids", "1", "--prompt", "y"], &["nothing"]] {
        assert_eq!(pagelm(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_model_that_does_not_fit_says_what_it_needs_and_what_there_is() {
    let model = golden("llama.gguf");
    for command in [&["run", "--ids", "5"][..], &["bench", "--pp", "8", "--tg", "1", "--reps", "1"]] {
        let args = [command, &["--model", &model, "--backend", "cpu", "--ctx", "100000", "--memory", "20"]].concat();
        let out = json(&args, 1);
        assert_eq!((&out["error"]["code"], &out["error"]["place"]), (&"out-of-memory".into(), &model.as_str().into()));
        let message = out["error"]["message"].as_str().unwrap();
        for part in ["MiB of weights", "of cache for 100000 tokens", "20.0 MiB are available", "a context of "] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
    // The context that it names fits.
    let flags = ["--model", &model, "--backend", "cpu", "--memory", "20", "--ctx"];
    let inspect = |ctx: &str| json(&[&["inspect"], &flags[..], &[ctx]].concat(), 0)["runs"].clone();
    let refused = inspect("100000")["error"]["message"].as_str().unwrap().to_string();
    let most = refused.split("a context of ").nth(1).unwrap().split(' ').next().unwrap();
    assert_eq!(inspect(most)["ok"], true);
    let more = (most.parse::<usize>().unwrap() + 1).to_string();
    assert_eq!(inspect(&more)["error"]["code"], "out-of-memory");
    // Without a limit, what is free decides: no machine has this much.
    let endless = json(&["inspect", "--model", &model, "--backend", "cpu", "--ctx", "100000000000"], 0);
    if cfg!(target_os = "linux") {
        assert_eq!(endless["runs"]["error"]["code"], "out-of-memory", "{endless}");
    }
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pagelm-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), bytes).expect("the temporary folder is writable");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a UTF-8 path")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn shaders_prints_a_kernel_as_it_is_compiled_with_its_bindings() {
    let out = pagelm(&["shaders", "gemv", "q4_k", "hardware"]);
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    for part in ["@group(0) @binding(1) var<storage, read> w_0: array<vec4<u32>>;", "fn rows_of(", "fn main("] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let listed = json(&["shaders"], 0);
    let names = listed["names"].as_array().unwrap();
    assert!(names.len() > 200 && names.iter().any(|n| n == "sample 32"), "{} names", names.len());
    assert_eq!(json(&["shaders", "sample", "32"], 0)["name"], "sample 32");
    let unknown = json(&["shaders", "no-such-kernel"], 1);
    assert_eq!(unknown["error"]["code"], "invalid-argument");
    assert!(unknown["error"]["message"].as_str().unwrap().contains("no-such-kernel"), "{unknown}");
}
