//! Sums of what comes in pieces (browsers only take it whole), and of blocks.

use sha2::{Digest, Sha256 as Hasher};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256(Hasher);

#[wasm_bindgen]
impl Sha256 {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Sha256 {
        Sha256::default()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that came, in hexadecimal digits. It starts anew after that.
    pub fn finish(&mut self) -> JsValue {
        self.0.finalize_reset().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }
}

/// Odd, so that a product with them loses nothing; their bits are those of the golden ratio and of pi.
const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x243f_6a88_85a3_08d3];

/// A sum that finds what disks and crashes do to stored bytes, and not what somebody does on purpose: browsers take several
/// times as long for a SHA-256. Where all that differs is in one of its words of 8 bytes, the sums always differ, as no step
/// maps two values to one. What is stored has these sums: another one would have all of it fetched again.
#[wasm_bindgen(js_name = blockSum)]
pub fn block_sum(bytes: &[u8]) -> JsValue {
    let mut lanes = [1, 2, 3, 4].map(|i: u64| i.wrapping_mul(FACTORS[0]));
    let mut add = |words: &[[u8; 8]; 4]| {
        for (lane, word) in lanes.iter_mut().zip(words) {
            let word = u64::from_le_bytes(*word).wrapping_mul(FACTORS[1]);
            *lane = lane.wrapping_add(word).rotate_left(31).wrapping_mul(FACTORS[0]);
        }
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let (rows, rest_words) = words.as_chunks::<4>();
    rows.iter().for_each(&mut add);
    let mut last = [0; 32];
    last[..rest_words.len() * 8].copy_from_slice(rest_words.as_flattened());
    last[rest_words.len() * 8..][..rest.len()].copy_from_slice(rest);
    add(last.as_chunks().0.as_array().expect("32 bytes are 4 words"));
    let sum = lanes.iter().fold(bytes.len() as u64, |sum, lane| {
        let sum = (sum ^ lane).wrapping_mul(FACTORS[0]);
        sum ^ (sum >> 29)
    });
    format!("{sum:016x}").into()
}
