//! GGUF reading: what is accepted, and what comes of it.

use pagelm::gguf::{Array, Gguf, Progress, Reader, Strings, Value};
use pagelm::{DType, ErrorKind, quant};

mod mutate;
mod reject;
mod split;

use crate::common::bodies::in_pieces;
use crate::common::fixtures;
use crate::common::gguf_writer::GgufWriter;
use crate::common::rng::Rng;

/// A small file with a key of every kind and three tensors.
pub fn sample() -> GgufWriter {
    let mut strings = Strings::default();
    [&b"plain"[..], b"", b"\xff\xfe raw"].iter().for_each(|s| strings.push(s));
    let row = quant::encode(DType::Q8_0, &[0.5; 64]).expect("whole blocks");
    GgufWriter::new()
        .string("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .kv("big", Value::Uint(u64::MAX))
        .kv("negative", Value::Int(-7))
        .kv("very.negative", Value::Int(i64::MIN))
        .f32("llama.rope.freq_base", 10000.0)
        .kv("double", Value::Float(0.1))
        .kv("flag", Value::Bool(true))
        .kv("array.uint", Value::Array(Array::Uint(vec![1, 2, 3])))
        .kv("array.int", Value::Array(Array::Int(vec![-1, 2])))
        .kv("array.float", Value::Array(Array::Float(vec![0.5, -0.25])))
        .kv("array.bool", Value::Array(Array::Bool(vec![true, false])))
        .kv("array.strings", Value::Array(Array::Strings(strings)))
        .kv("array.empty", Value::Array(Array::Uint(vec![])))
        .tensor("a.weight", DType::Q8_0, &[32, 2], &row)
        .tensor("b.bias", DType::F32, &[3], &[0; 12])
        .tensor("c.weight", DType::F16, &[2, 2, 2, 1], &[0; 16])
}

#[test]
fn what_the_writer_wrote_is_read_back() {
    let file = sample().finish();
    let gguf = Gguf::parse(&file).unwrap();
    assert_eq!((gguf.version, gguf.alignment, gguf.meta.iter().len()), (3, 32, 14));
    assert_eq!(gguf.meta.architecture().unwrap(), "llama");
    assert_eq!(gguf.meta.u32("llama.block_count").unwrap(), 2);
    assert_eq!(gguf.meta.get("big"), Some(&Value::Uint(u64::MAX)));
    assert_eq!(gguf.meta.get("negative"), Some(&Value::Int(-7)));
    assert_eq!(gguf.meta.get("very.negative"), Some(&Value::Int(i64::MIN)));
    assert_eq!(gguf.meta.get("double"), Some(&Value::Float(0.1)));
    assert_eq!(gguf.meta.opt_bool("flag").unwrap(), Some(true));
    assert_eq!(gguf.meta.opt_array("array.float").unwrap(), Some(&Array::Float(vec![0.5, -0.25])));
    assert_eq!(gguf.meta.opt_array("array.bool").unwrap(), Some(&Array::Bool(vec![true, false])));
    assert!(gguf.meta.opt_array("array.empty").unwrap().unwrap().is_empty());
    let strings = gguf.meta.opt_strings("array.strings").unwrap().unwrap();
    assert_eq!(strings.iter().collect::<Vec<_>>(), [&b"plain"[..], b"", b"\xff\xfe raw"]);
    let a = gguf.tensor("a.weight").unwrap();
    assert_eq!((a.dtype, a.cols(), a.rows(), a.len, a.offset), (DType::Q8_0, 32, 2, 68, gguf.data_offset));
    let c = gguf.tensor("c.weight").unwrap();
    assert_eq!((c.dims.as_slice(), c.rows(), c.offset), (&[2, 2, 2, 1][..], 4, gguf.data_offset + 128));
    assert_eq!(gguf.end(), file.len() as u64);
}

#[test]
fn version_2_reads_like_version_3() {
    assert_eq!(Gguf::parse(&sample().version(2).finish()).unwrap().version, 2);
}

#[test]
fn tensors_follow_the_alignment_that_the_file_chose() {
    for alignment in [1, 64, 4096, 1 << 20] {
        let file = sample().u32("general.alignment", alignment).finish();
        let gguf = Gguf::parse(&file).unwrap();
        assert!(gguf.tensors.iter().all(|t| t.offset.is_multiple_of(alignment.into())));
        assert_eq!(gguf.end(), file.len() as u64);
    }
}

#[test]
fn a_file_without_keys_or_tensors_is_a_file() {
    let gguf = Gguf::parse(&GgufWriter::new().finish()).unwrap();
    assert_eq!((gguf.meta.iter().len(), gguf.tensors.len(), gguf.data_offset), (0, 0, 32));
}

#[test]
fn a_string_value_that_is_no_utf8_is_read_with_replacements() {
    let file = GgufWriter::new().raw_kv(b"name", 8, b"\x03\0\0\0\0\0\0\0a\xffb").finish();
    assert_eq!(Gguf::parse(&file).unwrap().meta.string("name").unwrap(), "a\u{fffd}b");
}

#[test]
fn the_size_of_the_pieces_does_not_matter() {
    let file = sample().finish();
    let whole = Gguf::parse(&file).unwrap();
    for size in 1..file.len() {
        assert_eq!(in_pieces(&file, size).unwrap(), whole, "pieces of {size}");
    }
}

#[test]
fn a_reader_holds_back_no_more_than_the_item_it_waits_for() {
    let file = sample().finish();
    let mut reader = Reader::new(None);
    for (i, byte) in file.iter().enumerate() {
        let progress = reader.push(&[*byte]).unwrap();
        // The longest item of the sample is a tensor's shape of four dims: 44 bytes.
        assert!(reader.buffered() < 44);
        if let Progress::Done(gguf) = progress {
            assert_eq!(reader.consumed(), i as u64 + 1);
            assert_eq!(gguf.data_offset, reader.consumed().next_multiple_of(32));
            return;
        }
        assert_eq!(reader.consumed() + reader.buffered() as u64, i as u64 + 1);
    }
    panic!("the header did not end");
}

#[test]
fn a_long_header_in_single_bytes_takes_linear_time() {
    // Quadratic work would be 10^13 steps here.
    let file = GgufWriter::new().string("long", &"x".repeat(4 << 20)).finish();
    assert_eq!(in_pieces(&file, 1).unwrap(), Gguf::parse(&file).unwrap());
}

#[test]
fn bytes_after_the_header_are_ignored_and_a_later_push_is_refused() {
    let mut reader = Reader::new(None);
    assert!(matches!(reader.push(&sample().finish()).unwrap(), Progress::Done(_)));
    assert_eq!(reader.buffered(), 0);
    assert_eq!(reader.push(b"more").unwrap_err().kind(), ErrorKind::InvalidState);
}

#[test]
fn an_error_is_told_again_to_who_pushes_on() {
    let mut reader = Reader::new(None);
    let first = reader.push(b"MZ..").unwrap_err();
    assert_eq!(reader.push(b"GGUF").unwrap_err(), first);
}

#[test]
fn a_host_that_learns_the_length_late_can_still_check_it() {
    let file = sample().finish();
    let mut reader = Reader::new(None);
    let Progress::Done(gguf) = reader.push(&file).unwrap() else { panic!("the whole header was pushed") };
    gguf.check_len(file.len() as u64).unwrap();
    let e = gguf.check_len(file.len() as u64 - 5).unwrap_err();
    assert_eq!((e.kind(), e.place()), (ErrorKind::GgufTruncated, "tensor `c.weight`"));
    assert!(e.detail().contains("5 bytes are missing; is the download complete?"), "{e}");
}

#[test]
fn every_golden_file_reads_the_same_whole_and_in_random_pieces() {
    let names = ["", "quants"].map(|dir| fixtures::fixture(&format!("golden/{dir}")));
    let mut rng = Rng::new(3);
    let mut count = 0;
    for dir in names {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "gguf") {
                continue;
            }
            let file = std::fs::read(&path).unwrap();
            let gguf = Gguf::parse(&file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(gguf.meta.architecture().is_ok() && !gguf.tensors.is_empty());
            assert!(gguf.end() <= file.len() as u64);
            for _ in 0..4 {
                assert_eq!(random_pieces(&file, &mut rng), gguf, "{}", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 29, "{count} files");
}

fn random_pieces(file: &[u8], rng: &mut Rng) -> Gguf {
    let mut reader = Reader::new(Some(file.len() as u64));
    let mut rest = file;
    loop {
        let (piece, after) = rest.split_at(rng.below(200).min(rest.len()));
        rest = after;
        if let Progress::Done(gguf) = reader.push(piece).unwrap() {
            return *gguf;
        }
    }
}
