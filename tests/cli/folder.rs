//! Folders of Hugging Face checkpoints.

use super::*;

/// Writes a fixture as a checkpoint of two shards.
fn write_checkpoint(name: &str, folder: &Folder) -> String {
    let (model, numbers) = (golden(&format!("{name}.gguf")), golden(&format!("{name}.json")));
    let file = std::fs::read(&model).unwrap();
    let gguf = pagelm::gguf::Gguf::parse(&file).unwrap();
    let numbers: Value = serde_json::from_str(&std::fs::read_to_string(numbers).unwrap()).unwrap();
    let tensors = checkpoint::tensors(&gguf, &file);
    let mut map = serde_json::Map::new();
    for (i, part) in tensors.chunks(tensors.len().div_ceil(2)).enumerate() {
        let shard = format!("model-{i}.safetensors");
        folder.write(&shard, checkpoint::safetensors(part));
        map.extend(part.iter().map(|t| (t.name.clone(), shard.clone().into())));
    }
    folder.write("model.safetensors.index.json", serde_json::json!({ "weight_map": map }).to_string());
    folder.write("config.json", numbers["config"].to_string());
    folder.write("tokenizer.json", checkpoint::tokenizer(&gguf.meta).to_string());
    folder.write("tokenizer_config.json", checkpoint::settings(&gguf.meta).to_string());
    model
}

#[test]
fn a_checkpoint_folder_runs_like_its_gguf_file() {
    for name in ["llama32", "qwen2", "gemma"] {
        let folder = Folder::new(name);
        let model = write_checkpoint(name, &folder);
        for input in [["--prompt", "The sun and the rain"], ["--ids", "5,6,7,8"]] {
            let flags = ["--max-tokens", "12", "--ignore-eos", "--backend", "cpu"];
            let run = |path: &str| json(&[&["run", "--model", path][..], &input, &flags].concat(), 0);
            let (want, got) = (run(&model), run(folder.path()));
            for key in ["prompt_ids", "tokens", "text", "stop_reason"] {
                assert_eq!(got[key], want[key], "{name} {input:?} {key}");
            }
        }
        let flags = ["--backend", "cpu", "--ids", "5,6,7"];
        assert_eq!(json(&[&["check", "--model", folder.path()], &flags[..]].concat(), 0)["over"], 0);
        let out = json(&["inspect", "--model", folder.path(), "--backend", "cpu"], 0);
        assert_eq!((&out["architecture"], &out["runs"]["ok"]), (&name.trim_end_matches("32").into(), &true.into()));
        // Without its tokenizer it runs on ids, and says why it does not read text.
        std::fs::remove_file(folder.0.join("tokenizer.json")).unwrap();
        let out = json(&["run", "--model", folder.path(), "--ids", "5", "--max-tokens", "3", "--backend", "cpu"], 0);
        assert_eq!(out["text"], "");
        let out = json(&["run", "--model", folder.path(), "--prompt", "a", "--backend", "cpu"], 1);
        assert_eq!(out["error"]["code"], "bad-tokenizer");
    }
}

#[test]
fn a_folder_that_is_no_whole_checkpoint_says_what_it_lacks() {
    let folder = Folder::new("broken");
    let error = || json(&["inspect", "--model", folder.path(), "--backend", "cpu"], 1)["error"].clone();
    assert_eq!(error()["code"], "io");
    assert!(error()["message"].as_str().unwrap().contains("config.json"));
    write_checkpoint("qwen2", &folder);
    let shard = folder.0.join("model-1.safetensors");
    let bytes = std::fs::read(&shard).unwrap();
    folder.write("model-1.safetensors", &bytes[..bytes.len() - 5]);
    assert_eq!(error()["code"], "bad-checkpoint");
    assert_eq!(error()["place"], format!("{}, model-1.safetensors", folder.path()));
    folder.write("model-1.safetensors", "");
    assert_eq!(error()["code"], "bad-checkpoint");
    std::fs::remove_file(&shard).unwrap();
    assert_eq!(error()["code"], "io");
    assert_eq!(error()["place"], format!("{}/model-1.safetensors", folder.path()));
    std::fs::remove_file(folder.0.join("model.safetensors.index.json")).unwrap();
    assert!(error()["message"].as_str().unwrap().contains("model.safetensors"));
}

#[test]
fn a_split_model_runs_whichever_of_its_parts_is_named() {
    let model = golden("qwen3.gguf");
    let folder = Folder::new("split");
    let name = |no: usize| format!("m-{no:05}-of-00003.gguf");
    let parts = gguf_writer::in_parts(&std::fs::read(&model).unwrap(), 3);
    parts.iter().enumerate().for_each(|(i, part)| folder.write(&name(i + 1), part));
    let at = |name: &str| format!("{}/{name}", folder.path());
    let run = |model: &str, status| {
        let flags = ["--ids", "5,6,7,8", "--max-tokens", "6", "--ignore-eos", "--temperature", "0", "--backend", "cpu"];
        json(&[&["run", "--model", model], &flags[..]].concat(), status)
    };
    let want = run(&model, 0);
    for no in 1..=3 {
        assert_eq!(run(&at(&name(no)), 0)["tokens"], want["tokens"], "part {no}");
    }
    let inspected = json(&["inspect", "--model", &at(&name(2)), "--backend", "cpu"], 0);
    assert_eq!(inspected["runs"]["ok"], true);
    assert_eq!(inspected["bytes"], parts.iter().map(Vec::len).sum::<usize>());
    let refused = |model: &str, words: &[&str]| {
        let error = &run(model, 1)["error"];
        assert_eq!(error["code"], "split-file", "{error}");
        let said = format!("{} {}", error["place"], error["message"]);
        words.iter().for_each(|word| assert!(said.contains(word), "`{word}` is not in {said}"));
    };
    folder.write("renamed.gguf", &parts[1]);
    refused(&at("renamed.gguf"), &["part 2 of 3", "-00002-of-00003.gguf"]);
    folder.write(&name(3), &parts[1]);
    refused(&at(&name(1)), &[&name(3), "part 2 of 3", "part 3 of 3 belongs"]);
    std::fs::remove_file(at(&name(3))).unwrap();
    refused(&at(&name(1)), &[&name(3), "part 3 of 3 cannot be read"]);
}
