//! Files without a vocabulary, as `synth` writes them.

use pagelm::gguf::Gguf;

use super::gguf_writer::GgufWriter;
use super::*;

#[test]
fn a_file_without_a_vocabulary_is_measured_and_held_to_no_schema() {
    let file = std::fs::read(golden("llama.gguf")).unwrap();
    let gguf = Gguf::parse(&file).unwrap();
    let kept = gguf.meta.iter().filter(|(key, _)| !key.starts_with("tokenizer."));
    let w = kept.fold(GgufWriter::new(), |w, (key, value)| w.kv(key, value.clone()));
    let w = gguf.tensors.iter().fold(w.string("tokenizer.ggml.model", "none"), |w, t| {
        w.tensor(&t.name, t.dtype, &t.dims, &file[t.offset as usize..][..t.len as usize])
    });
    let path = std::env::temp_dir().join(format!("pagelm-bench-{}.gguf", std::process::id()));
    std::fs::write(&path, w.finish()).unwrap();
    let common =
        ["bench", "--backend", "cpu", "--pp", "8", "--tg", "4", "--reps", "1", "--model", path.to_str().unwrap()];
    let out = json(&common, 0);
    assert_eq!(out["tests"].as_array().unwrap().len(), 2, "{out}");
    let refused = json(&[&common[..], &["--json-schema", "{}"]].concat(), 1);
    assert_eq!(refused["error"]["code"], "bad-tokenizer", "{refused}");
    std::fs::remove_file(path).unwrap();
}
