//! Sums of what comes in pieces (browsers only take it whole), and of blocks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use sha2::{Digest, Sha256 as Hasher};
use wasm_bindgen::prelude::*;

use crate::errands::{locked, offer, wait_while};

/// Bytes that wait for the thread that sums: more would only be more memory.
const MOST_WAITING: usize = 8 << 20;

/// A sum that another thread makes while this one goes on, once there is one: SHA-256 takes longer than all the rest of a load.
#[wasm_bindgen]
pub struct Sha256(Arc<Sum>);

#[derive(Default)]
struct Sum {
    /// Bytes are taken from the queue by who has this, so that they come in order.
    hasher: Mutex<Hasher>,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Whether a thread sums.
    helped: AtomicBool,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether there will be no more.
    ended: bool,
}

impl Sum {
    fn next(&self) -> Option<Vec<u8>> {
        let mut queue = locked(&self.queue);
        let piece = queue.pieces.pop_front()?;
        queue.bytes -= piece.len();
        self.changed.notify_all();
        Some(piece)
    }

    fn drain(&self) -> MutexGuard<'_, Hasher> {
        let mut hasher = locked(&self.hasher);
        while let Some(piece) = self.next() {
            hasher.update(&piece);
        }
        hasher
    }

    /// Sums what comes, until there is no more.
    fn help(&self) {
        self.helped.store(true, Ordering::Relaxed);
        loop {
            drop(self.drain());
            let idle = |queue: &Queue| queue.pieces.is_empty() && !queue.ended;
            let queue = wait_while(&self.changed, locked(&self.queue), idle);
            if queue.pieces.is_empty() {
                return;
            }
        }
    }

    fn end(&self) {
        locked(&self.queue).ended = true;
        self.changed.notify_all();
    }
}

#[wasm_bindgen]
impl Sha256 {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Sha256 {
        let sum = Arc::<Sum>::default();
        let weak = Arc::downgrade(&sum);
        offer(move || {
            if let Some(sum) = weak.upgrade() {
                sum.help();
            }
        });
        Sha256(sum)
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !self.0.helped.load(Ordering::Relaxed) {
            self.0.drain().update(bytes);
            return;
        }
        let full = |queue: &Queue| queue.bytes > MOST_WAITING;
        let mut queue = wait_while(&self.0.changed, locked(&self.0.queue), full);
        queue.bytes += bytes.len();
        queue.pieces.push_back(bytes.to_vec());
        self.0.changed.notify_all();
    }

    /// The digest of all that came, in hexadecimal digits. It starts anew after that.
    pub fn finish(&mut self) -> JsValue {
        let digest = self.0.drain().finalize_reset();
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }
}

impl Drop for Sha256 {
    fn drop(&mut self) {
        self.0.end();
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
