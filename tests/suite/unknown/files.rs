//! Tensors that nothing reads, and files that say so or are parts of others.

use super::*;

#[test]
fn tensors_that_nothing_reads_are_refused_by_name_wherever_they_are() {
    let names = [
        "output.bias",
        "output.scale",
        "output_norm.bias",
        "token_embd_norm.weight",
        "rope_factors_long.weight",
        "rope_factors_short.weight",
        "dense.0.weight",
        "dense_2.weight",
        "cls.output.weight",
        "position_embd.weight",
        "blk.0.attn_q.scale",
        "blk.999.ffn_up.weight",
        "anything",
    ];
    for (arch, _) in arch::REGISTRY {
        let plain = golden(arch);
        // That one reads them.
        for name in names.into_iter().filter(|n| (arch, *n) != (&"gemma-embedding", "dense_2.weight")) {
            let altered = with_tensors(&plain, &[name]);
            refused(&altered, ErrorKind::UnknownContent, &[&format!("tensor `{name}`")]);
            let allowed = arch::build(&altered, &|_| true, Wanted { allow_unknown: true, ..Wanted::default() });
            assert_eq!(allowed.unwrap().to_string(), graph(&plain), "{name}");
        }
        let senses = with_tensors(&plain, &["v.blk.0.attn_q.weight", "mm.0.weight", "a.blk.0.ffn_up.weight"]);
        assert_eq!(graph(&senses), graph(&plain));
    }
    // Only llama reads these.
    refused(
        &with_tensors(&golden("qwen2"), &["rope_freqs.weight"]),
        ErrorKind::UnknownContent,
        &["`rope_freqs.weight`"],
    );
    assert!(golden("llama32").tensor("rope_freqs.weight").is_some() && build(&golden("llama32")).is_ok());
}

#[test]
fn one_error_names_everything_that_is_wrong_and_long_foreign_names_are_cut() {
    let mut bad = with_tensors(&golden("llama"), &["output.bias", "dense.0.weight"]);
    bad = with(&bad, &[("llama.logit_scale", float(0.5)), ("prism.hadamard.block_size", uint(8))]);
    bad.tensors.retain(|t| t.name != "blk.0.attn_k.weight" && t.name != "output_norm.weight");
    bad.tensors.iter_mut().find(|t| t.name == "blk.0.attn_norm.weight").unwrap().dims = vec![5];
    let parts = [
        "`blk.0.attn_k.weight`",
        "`output_norm.weight`",
        "`blk.0.attn_norm.weight` must be",
        "`llama.logit_scale` = 0.5 (expected 1 or 0)",
        "`prism.hadamard.block_size` = 8",
        "tensor `output.bias`",
        "tensor `dense.0.weight`",
    ];
    refused(&bad, ErrorKind::MissingTensor, &parts);
    let name = "ä".repeat(30_000);
    let long = with_tensors(&with(&golden("llama"), &[(&name, string(&name))]), &[&name]);
    let e = build(&long).unwrap_err().to_string();
    assert!(e.len() < 1000 && e.contains('…'), "{}", e.len());
    let names: Vec<String> = (0..5000).map(|i| format!("t{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let e = build(&with_tensors(&golden("llama"), &names)).unwrap_err().to_string();
    assert!(e.contains("`t0`") && e.contains("and 4968 more") && e.len() < 1000, "{e}");
}

#[test]
fn a_part_of_a_split_model_says_which_and_its_counts_are_checked() {
    let plain = golden("llama");
    let n = plain.tensors.len() as u64;
    let split =
        |no, count, tensors| [("split.no", uint(no)), ("split.count", uint(count)), ("split.tensors.count", tensors)];
    let mut first = with(&plain, &split(0, 2, uint(n)));
    first.tensors.truncate(10);
    refused(&first, ErrorKind::SplitFile, &["part 1 of 2", &format!("10 of {n} tensors"), "llama-gguf-split"]);
    // The parts after the first say nothing of the model.
    let numbers = GgufWriter::new().u32("split.no", 1).u32("split.count", 2).u32("split.tensors.count", n as u32);
    let second = Gguf::parse(&numbers.tensor("a", DType::F32, &[1], &[0; 4]).finish()).unwrap();
    refused(&second, ErrorKind::SplitFile, &["part 2 of 2"]);
    refused(&with(&plain, &split(0, 2, None)), ErrorKind::SplitFile, &["part 1 of 2"]);
    for whole in [split(0, 1, uint(n)), split(0, 0, uint(n)), split(0, 0, uint(0)), split(0, 1, None)] {
        assert_eq!(graph(&with(&plain, &whole)), graph(&plain));
    }
    refused(&with(&plain, &split(2, 2, uint(n))), ErrorKind::GgufInvalid, &["`split.no` is 2", "`split.count` is 2"]);
    refused(&with(&plain, &split(0, 2, uint(3))), ErrorKind::GgufInvalid, &["`split.tensors.count` is 3"]);
    refused(&with(&plain, &split(0, 1, uint(n + 1))), ErrorKind::GgufInvalid, &["`split.tensors.count`", "complete?"]);
    refused(&with(&plain, &[("split.count", string("2"))]), ErrorKind::WrongKeyType, &["split.count"]);
}

#[test]
fn files_of_every_maker_that_are_here_have_nothing_unknown() {
    for name in
        ["SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
    {
        let Some(path) = fixtures::model(name) else { continue };
        let mut head = vec![0; 16 << 20];
        std::io::Read::read_exact(&mut std::fs::File::open(&path).unwrap(), &mut head).unwrap();
        let mut reader = pagelm::gguf::Reader::new(None);
        let pagelm::gguf::Progress::Done(gguf) = reader.push(&head).unwrap() else { panic!("{name}: a longer header") };
        build(&gguf).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn a_tensor_with_room_after_it_is_not_of_the_type_that_its_number_says() {
    // Some programs write other types under the number 42: one byte a value here, 18 for 64 as Q2_0.
    let mut long = crate::common::gguf_writer::RawTensor::new("a", DType::Q2_0, &[256], &[0; 256]);
    long.bytes = vec![0; 256];
    let w = GgufWriter::new().raw_tensor(long).tensor("b", DType::F32, &[1], &[0; 4]);
    let e = Gguf::parse(&w.finish()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::GgufInvalid);
    assert!(["`a`", "72 bytes as Q2_0", "after 256"].iter().all(|p| e.to_string().contains(p)), "{e}");
}
