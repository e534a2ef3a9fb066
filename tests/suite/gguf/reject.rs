//! What is refused: with the right kind, and with the place and the numbers in words.

use pagelm::gguf::{Array, Gguf, Reader, Value, ValueType};
use pagelm::{DType, Error, ErrorKind};

use super::sample;
use crate::common::gguf_writer::{GgufWriter, RawTensor, array, text};

fn error(file: &[u8]) -> Error {
    Gguf::parse(file).expect_err("this file must be refused")
}

/// The kind, and every one of `words` in the message.
fn refused(file: &[u8], kind: ErrorKind, words: &[&str]) {
    let e = error(file);
    assert_eq!(e.kind(), kind, "{e}");
    for word in words {
        assert!(e.to_string().contains(word), "`{word}` is not in: {e}");
    }
}

fn invalid(file: &[u8], words: &[&str]) {
    refused(file, ErrorKind::GgufInvalid, words);
}

fn with_value(type_id: u32, payload: &[u8]) -> Vec<u8> {
    // Room after it, so that the file's end is not what refuses it.
    [GgufWriter::new().u32("first", 1).raw_kv(b"the.key", type_id, payload).finish(), vec![0; 4096]].concat()
}

fn with_tensor(change: impl FnOnce(&mut RawTensor)) -> Vec<u8> {
    let mut tensor = RawTensor::new("the.tensor", DType::F32, &[8], &[0; 32]);
    change(&mut tensor);
    [GgufWriter::new().raw_tensor(tensor).finish(), vec![0; 4096]].concat()
}

#[test]
fn a_file_of_another_kind_is_named_as_far_as_it_can_be() {
    refused(b"PK\x03\x04 and so on", ErrorKind::NotGguf, &["PK\\x03\\x04"]);
    refused(b"<!DOCTYPE html>", ErrorKind::NotGguf, &["web page"]);
    refused(b"{\"error\": 404}", ErrorKind::NotGguf, &["JSON"]);
}

#[test]
fn other_versions_and_big_endian_files_are_refused() {
    for version in [0, 1, 4, 99] {
        refused(&sample().version(version).finish(), ErrorKind::GgufVersion, &[&format!("version {version}")]);
    }
    refused(&sample().version(3u32.swap_bytes()).finish(), ErrorKind::GgufVersion, &["big-endian"]);
    refused(&sample().magic(*b"FUGG").finish(), ErrorKind::GgufVersion, &["big-endian"]);
}

#[test]
fn a_header_cut_anywhere_is_truncated_and_says_so() {
    let header = sample().header();
    for cut in 0..header.len() {
        refused(&header[..cut], ErrorKind::GgufTruncated, &["is the download complete?", "byte"]);
        // Without the length the reader waits, and the host asks for the error at the end.
        let mut reader = Reader::new(None);
        reader.push(&header[..cut]).unwrap();
        assert_eq!(reader.truncated().kind(), ErrorKind::GgufTruncated);
        assert!(reader.truncated().place().contains(&format!("byte {cut}")));
    }
}

#[test]
fn a_file_cut_in_its_data_says_how_much_is_missing() {
    let file = sample().finish();
    refused(&file[..file.len() - 3], ErrorKind::GgufTruncated, &["`c.weight`", "3 bytes are missing"]);
}

#[test]
fn counts_above_the_limits_or_the_file_are_refused_at_once() {
    invalid(&sample().key_count(u64::MAX).finish(), &["keys", "limit"]);
    invalid(&sample().tensor_count(1 << 40).finish(), &["tensors", "limit"]);
    refused(&sample().key_count(60_000).finish(), ErrorKind::GgufTruncated, &["needs"]);
    refused(&sample().tensor_count(100_000).finish(), ErrorKind::GgufTruncated, &["needs"]);
}

#[test]
fn names_must_have_a_length_and_be_text() {
    for name in [&b""[..], &[b'x'; 65536]] {
        invalid(&GgufWriter::new().raw_kv(name, 10, &[0; 8]).finish(), &["key 0", "65535"]);
        invalid(&with_tensor(|t| t.name = name.to_vec()), &["tensor 0", "65535"]);
    }
    assert!(Gguf::parse(&GgufWriter::new().raw_kv(&[b'x'; 65535], 0, &[0]).finish()).is_ok());
    invalid(&GgufWriter::new().raw_kv(b"a\xff", 0, &[0]).finish(), &["key 0", "UTF-8"]);
    invalid(&with_tensor(|t| t.name = b"a\xff".to_vec()), &["tensor 0", "UTF-8"]);
    // A length past the file, with nothing allocated for it.
    let past = [&GgufWriter::new().key_count(1).header()[..], &40_000u64.to_le_bytes(), &[b'x'; 100]].concat();
    refused(&past, ErrorKind::GgufTruncated, &["needs 40000 bytes", "100 more"]);
}

#[test]
fn strings_and_arrays_above_the_limits_or_past_the_file_are_refused() {
    let key = "key `the.key`";
    invalid(&with_value(8, &u64::MAX.to_le_bytes()), &[key, "string", "limit"]);
    refused(&with_value(8, &5000u64.to_le_bytes()), ErrorKind::GgufTruncated, &[key, "5000"]);
    invalid(&with_value(9, &array(ValueType::U8, u64::MAX, &[])), &[key, "elements", "limit"]);
    refused(&with_value(9, &array(ValueType::U64, 600, &[])), ErrorKind::GgufTruncated, &[key, "4800"]);
    refused(&with_value(9, &array(ValueType::String, 600, &[])), ErrorKind::GgufTruncated, &[key, "4800"]);
    let element = array(ValueType::String, 2, &[text(b"ok"), 5000u64.to_le_bytes().to_vec()].concat());
    refused(&with_value(9, &element), ErrorKind::GgufTruncated, &[key, "string 1", "5000"]);
}

#[test]
fn value_types_that_do_not_exist_and_nested_arrays_are_refused() {
    invalid(&with_value(13, &[0]), &["`the.key`", "13"]);
    invalid(&with_value(9, &[&77u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()), &["`the.key`", "77"]);
    invalid(&with_value(9, &array(ValueType::Array, 1, &[0; 12])), &["`the.key`", "arrays of arrays"]);
}

#[test]
fn a_bool_is_0_or_1() {
    invalid(&with_value(7, &[2]), &["`the.key`", "must be 0 or 1, is 2"]);
    invalid(&with_value(9, &array(ValueType::Bool, 3, &[0, 1, 255])), &["`the.key`", "must be 0 or 1, is 255"]);
}

#[test]
fn a_key_or_a_tensor_is_there_once() {
    invalid(&sample().u32("flag", 1).finish(), &["`flag`", "duplicate"]);
    invalid(&sample().tensor("b.bias", DType::F32, &[1], &[0; 4]).finish(), &["tensor `b.bias`", "two"]);
}

#[test]
fn a_tensor_has_one_to_four_dims_of_one_or_more() {
    invalid(&with_tensor(|t| t.dims = vec![]), &["`the.tensor`", "0 dims"]);
    invalid(&with_tensor(|t| t.dims = vec![1; 5]), &["`the.tensor`", "5 dims"]);
    invalid(&with_tensor(|t| t.dims = vec![0]), &["`the.tensor`", "no elements"]);
    invalid(&with_tensor(|t| t.dims = vec![4, 0]), &["`the.tensor`", "no elements"]);
}

#[test]
fn dims_whose_product_overflows_are_refused() {
    let wide = 1 << 31;
    invalid(&with_tensor(|t| t.dims = vec![u64::MAX]), &["`the.tensor`", "more rows or columns"]);
    invalid(&with_tensor(|t| t.dims = vec![1, 1 << 32, 1 << 32]), &["`the.tensor`", "more rows or columns"]);
    invalid(&with_tensor(|t| t.dims = vec![1, 1 << 63, 2]), &["`the.tensor`", "more rows or columns"]);
    invalid(&with_tensor(|t| t.dims = vec![wide, wide]), &["`the.tensor`", "too large"]);
}

#[test]
fn types_that_are_unknown_are_refused_by_number_and_known_ones_by_name() {
    for id in [43, 141, 144, 1000, u32::MAX] {
        invalid(&with_tensor(|t| t.type_id = id), &["`the.tensor`", &format!("type number {id};")]);
    }
    for (id, name) in [(4, "Q4_2"), (9, "Q8_1"), (15, "Q8_K"), (31, "Q4_0_4_4"), (38, "IQ4_NL_8_8"), (142, "PQ2_0")] {
        let parts = ["`the.tensor`", name, &format!("number {id})")];
        refused(&with_tensor(|t| t.type_id = id), ErrorKind::UnsupportedType, &parts);
    }
}

#[test]
fn rows_are_whole_blocks() {
    for (dtype, cols) in [(DType::Q4_0, 33), (DType::Q4_K, 128), (DType::NVFP4, 32)] {
        invalid(
            &with_tensor(|t| (t.type_id, t.dims) = (dtype.gguf_id(), vec![cols, 256])),
            &["`the.tensor`", &format!("rows of {cols}"), dtype.name()],
        );
    }
}

#[test]
fn offsets_are_aligned_in_reach_and_apart() {
    invalid(&with_tensor(|t| t.offset = Some(8)), &["`the.tensor`", "offset 8", "alignment 32"]);
    for far in [u64::MAX - 31, 1 << 63] {
        invalid(&with_tensor(|t| t.offset = Some(far)), &["`the.tensor`", "too large"]);
    }
    refused(&with_tensor(|t| t.offset = Some(1 << 40)), ErrorKind::GgufTruncated, &["`the.tensor`", "missing"]);
    let mut over = RawTensor::new("over", DType::F32, &[8], &[0; 32]);
    over.offset = Some(64);
    invalid(&sample().raw_tensor(over).finish(), &["tensor `a.weight`", "`over`"]);
}

#[test]
fn the_alignment_is_a_power_of_two_up_to_a_mebibyte() {
    for bad in [0, 3, 48, 2 << 20] {
        invalid(&sample().kv("general.alignment", Value::Uint(bad)).finish(), &["general.alignment", &bad.to_string()]);
    }
    let file = sample().string("general.alignment", "32").finish();
    refused(&file, ErrorKind::WrongKeyType, &["general.alignment"]);
}

#[test]
fn a_header_above_the_limit_is_refused_before_its_end() {
    let chunk = "x".repeat(16 << 20);
    let file = (0..5).fold(GgufWriter::new(), |w, i| w.string(&format!("k{i}"), &chunk)).finish();
    invalid(&file, &["header longer", "key `k3`"]);
}

#[test]
fn an_absent_key_and_a_key_of_another_type_are_told_apart_when_asked_for() {
    let gguf = Gguf::parse(&GgufWriter::new().kv("a", Value::Array(Array::Bool(vec![]))).finish()).unwrap();
    assert_eq!(gguf.meta.architecture().unwrap_err().kind(), ErrorKind::MissingKey);
    let wrong = gguf.meta.u32("a").unwrap_err();
    assert_eq!((wrong.kind(), wrong.place()), (ErrorKind::WrongKeyType, "key `a`"));
}

#[test]
fn a_long_foreign_name_is_cut_in_the_message() {
    let name = "ä".repeat(30_000);
    let e = error(&GgufWriter::new().raw_kv(name.as_bytes(), 99, &[0; 8]).finish());
    assert!(e.to_string().len() < 400 && e.to_string().contains('…'), "{e}");
}
