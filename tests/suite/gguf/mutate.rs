//! Broken on purpose, thousands of times: no panic, and no more memory than the reader promises.

use pagelm::DType;
use pagelm::gguf::{Array, Gguf, MEMORY_BASE, MEMORY_FACTOR, Progress, Reader, Value, ValueType};

use super::sample;
use crate::common::alloc::peak;
use crate::common::gguf_writer::{GgufWriter, array};
use crate::common::rng::Rng;
use crate::common::{bodies, fixtures};

/// Headers to start from, with a little data.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        sample().finish(),
        sample().version(2).u32("general.alignment", 64).finish(),
        GgufWriter::new().finish(),
        (0..20).fold(GgufWriter::new(), |w, i| w.strings(&format!("s{i}"), &["a", "", "bc"])).finish(),
        (0..40).fold(sample(), |w, i| w.tensor(&format!("t{i}"), DType::Q4_0, &[32, 1], &[0; 18])).finish(),
    ];
    let mut llama = fixtures::bytes("golden/llama.gguf");
    llama.truncate(Gguf::parse(&llama).expect("a good file").data_offset as usize + 64);
    seeds.push(llama);
    seeds
}

/// One to four changes: a bit, a byte, a length, a piece of another file, a cut.
fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut file = seeds[rng.below(seeds.len())].clone();
    for _ in 0..=rng.below(4) {
        let at = rng.below(file.len());
        match rng.below(6) {
            0 if at < file.len() => file[at] ^= 1 << rng.below(8),
            1 if at < file.len() => file[at] = rng.next() as u8,
            2 | 3 => {
                let lengths =
                    [0, 1, 255, 65535, 65536, 1 << 20, 1 << 24, (1 << 24) + 1, u32::MAX.into(), 1 << 63, u64::MAX];
                let value = match rng.below(3) {
                    0 => rng.next() % 64,
                    1 => file.len() as u64,
                    _ => lengths[rng.below(lengths.len())],
                };
                let width = if rng.below(2) == 0 { 4 } else { 8 };
                let end = file.len().min(at + width);
                file[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            4 => {
                let other = &seeds[rng.below(seeds.len())];
                let from = rng.below(other.len());
                let piece = &other[from..(from + rng.below(200)).min(other.len())];
                let end = (at + rng.below(200)).min(file.len());
                file.splice(at..end, piece.iter().copied());
            }
            _ => file.truncate(at),
        }
    }
    file
}

fn bound(received: usize) -> usize {
    received * MEMORY_FACTOR as usize + MEMORY_BASE as usize
}

/// Reads the header of `file` without its length being known, in pieces: the memory must follow the bytes received.
fn peak_of_reading(file: &[u8], size: usize) -> usize {
    let mut received = 0;
    let ((), most) = peak(|| {
        let mut reader = Reader::new(None);
        for piece in file.chunks(size) {
            received += piece.len();
            match reader.push(piece) {
                Ok(Progress::NeedMore) => {}
                Ok(Progress::Done(_)) | Err(_) => return,
            }
        }
    });
    assert!(most <= bound(received), "held {most} bytes for {received} received");
    most
}

#[test]
fn mutated_headers_neither_panic_nor_take_more_memory_than_promised() {
    let seeds = seeds();
    let mut rng = Rng::new(2024);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..12_000 {
        let file = mutated(&seeds, &mut rng);
        match bodies::gguf(&file) {
            Ok(_) => good += 1,
            Err(e) => {
                assert!(!e.detail().is_empty());
                bad += 1;
            }
        }
        let (_, most) = peak(|| Gguf::parse(&file));
        assert!(most <= bound(file.len()), "held {most} bytes for {}", file.len());
        peak_of_reading(&file, 1 + rng.below(300));
    }
    // Both ways out are well trodden.
    assert!(good > 500 && bad > 5000, "{good} accepted, {bad} refused");
}

#[test]
fn the_worst_headers_keep_the_memory_bound() {
    let bytes = vec![1; 4 << 20];
    let empty = vec![0; 8 << 17];
    let keys = (0..60_000u32).fold(GgufWriter::new(), |w, i| w.raw_kv(format!("{i:x}").as_bytes(), 7, &[1]));
    let tensors = (0..60_000u32).fold(GgufWriter::new(), |w, i| w.tensor(&format!("{i:x}"), DType::I8, &[1], &[]));
    let worst = [
        ("bytes", GgufWriter::new().raw_kv(b"k", 9, &array(ValueType::U8, bytes.len() as u64, &bytes))),
        ("bools", GgufWriter::new().kv("k", Value::Array(Array::Bool(vec![true; 4 << 20])))),
        ("empty strings", GgufWriter::new().raw_kv(b"k", 9, &array(ValueType::String, 1 << 17, &empty))),
        ("short strings", GgufWriter::new().strings("k", &vec!["ab"; 1 << 17])),
        (
            "a string that is no UTF-8",
            GgufWriter::new().raw_kv(b"k", 8, &crate::common::gguf_writer::text(&[255; 4 << 20])),
        ),
        ("short keys", keys),
        ("short tensors", tensors),
    ];
    for (name, writer) in worst {
        let header = writer.header();
        for size in [1, 4096, usize::MAX] {
            let most = peak_of_reading(&header, size);
            let factor = most as f64 / header.len() as f64;
            println!("{name}, pieces of {size}: {factor:.1} bytes per byte");
            // Without the base: it is there for short headers, these are long.
            assert!(factor <= MEMORY_FACTOR as f64, "{name}, pieces of {size}: {factor:.1} bytes per byte");
        }
    }
}

#[test]
fn a_claim_alone_takes_no_memory() {
    let text = GgufWriter::new().raw_kv(b"k", 8, &(16u64 << 20).to_le_bytes());
    let elements = GgufWriter::new().raw_kv(b"k", 9, &array(ValueType::U8, 16 << 20, &[]));
    let strings = GgufWriter::new().raw_kv(b"k", 9, &array(ValueType::String, 4 << 20, &[]));
    let counts = GgufWriter::new().key_count(1 << 16).tensor_count(1 << 17);
    for writer in [text, elements, strings, counts] {
        let header = writer.header();
        assert!(peak_of_reading(&header, usize::MAX) < 4096);
    }
}
