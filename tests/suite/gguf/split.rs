//! Models of several files, read as one.

use pagelm::gguf::{Gguf, SplitPart};
use pagelm::{DType, ErrorKind};

use crate::common::fixtures;
use crate::common::gguf_writer::{GgufWriter, in_parts, numbers};
use crate::common::golden;

/// The headers, each with its start in the file that all of them make, and a name.
fn headers(parts: &[Vec<u8>]) -> Vec<(Gguf, u64, String)> {
    let mut start = 0;
    let place = |(i, part): (usize, &Vec<u8>)| {
        start += part.len() as u64;
        (Gguf::parse(part).unwrap(), start - part.len() as u64, format!("m-{}.gguf", i + 1))
    };
    parts.iter().enumerate().map(place).collect()
}

#[test]
fn the_parts_of_a_model_run_as_the_whole_one() {
    for count in [1, 2, 3, 5] {
        let (numbers, file) = golden::load("llama");
        let parts = in_parts(&file, count);
        let joined = if count == 1 { Gguf::parse(&parts[0]).unwrap() } else { Gguf::join(headers(&parts)).unwrap() };
        assert_eq!(joined.split().unwrap(), None);
        let bytes = parts.concat();
        let whole = Gguf::parse(&file).unwrap();
        for t in &whole.tensors {
            let here = joined.tensor(&t.name).unwrap();
            let range = |t: &pagelm::gguf::TensorInfo| t.offset as usize..(t.offset + t.len) as usize;
            assert_eq!(bytes[range(here)], file[range(t)], "{}", t.name);
        }
        let backend: Box<dyn pagelm::backend::Backend> = Box::new(pagelm::backend::cpu::Cpu::new(1));
        let model = pagelm::engine::Model::new(&joined, &|d| backend.supports(d), &Default::default()).unwrap();
        let mut session = model.load(&joined, &bytes, backend).unwrap();
        let prompt = &numbers.prompts[0];
        let got = pollster::block_on(session.prefill(&prompt.ids)).unwrap();
        // Two f32 implementations are 1e-4 apart.
        assert!(golden::max_diff(got, &prompt.logits_last.data) <= 3e-4);
    }
}

#[test]
fn a_part_says_which_it_is() {
    let parts = in_parts(&fixtures::bytes("golden/llama.gguf"), 3);
    let which = |i: usize| Gguf::parse(&parts[i]).unwrap().split().unwrap();
    assert_eq!(which(2), Some(SplitPart { no: 2, count: 3 }));
    assert_eq!(Gguf::parse(&fixtures::bytes("golden/llama.gguf")).unwrap().split().unwrap(), None);
}

#[test]
fn parts_that_do_not_belong_together_are_refused_by_name() {
    let parts = in_parts(&fixtures::bytes("golden/llama.gguf"), 3);
    let refused = |parts: &[Vec<u8>], place: &str, words: &[&str]| {
        let e = Gguf::join(headers(parts)).unwrap_err();
        assert_eq!((e.kind(), e.place()), (ErrorKind::SplitFile, place), "{e}");
        assert!(words.iter().all(|w| e.to_string().contains(w)), "{e}");
    };
    let [a, b, c] = &parts[..] else { panic!("three parts were made") };
    let sets = |set: [&Vec<u8>; 3]| set.map(Clone::clone);
    refused(&sets([a, c, b]), "m-2.gguf", &["is part 3 of 3, where part 2 of 3 belongs"]);
    refused(&parts[..2], "m-1.gguf", &["part 1 of 3, where part 1 of 2"]);
    let whole = fixtures::bytes("golden/llama.gguf");
    refused(&sets([a, b, &whole]), "m-3.gguf", &["a whole file", "part 3 of 3"]);

    let n = Gguf::parse(&whole).unwrap().tensors.len();
    let last = |w: GgufWriter| w.tensor("other", DType::F32, &[1], &[0; 4]).finish();
    let short = last(numbers(GgufWriter::new(), 2, 3, n));
    refused(&sets([a, b, &short]), "m-1.gguf", &[&format!("`split.tensors.count` is {n}"), "3 parts have"]);
    let other = last(numbers(GgufWriter::new(), 2, 3, n + 1));
    refused(&sets([a, b, &other]), "m-3.gguf", &["another model than m-1.gguf", "split.tensors.count"]);
    let other = last(numbers(GgufWriter::new().string("general.architecture", "gemma"), 2, 3, n));
    refused(&sets([a, b, &other]), "m-3.gguf", &["another model", "general.architecture"]);
}
