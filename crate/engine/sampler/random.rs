//! Counter-based random numbers, and the draw that uses them.

use super::Candidate;

/// The random number of token `id` in step `step`, in (0, 1): a function of its arguments, of 32-bit arithmetic only.
///
/// `k = mix(hi ^ mix(lo ^ mix(step)))` for the two halves of the seed, `h = mix(mix(id ^ k) + k)` (wrapping), and the
/// number is `(h + 0.5) / 2^32`.
pub fn uniform(seed: u64, step: u32, id: u32) -> f64 {
    from_key(key(seed, step), id)
}

/// Chooses a candidate with the probability that softmax over the logits gives it, by the Gumbel-max trick
/// (<https://arxiv.org/abs/1411.0030>): the largest `logit - ln(-ln(uniform))` wins, among equals the lowest id. The
/// order of the candidates does not matter.
///
/// `shaders/sample/sample.wgsl` does the same in f32, with a logarithm of its own. Its scores are off by about 2^-20,
/// so that of a million tokens a few may be the second best.
pub fn draw(candidates: &[Candidate], seed: u64, step: u32) -> Option<u32> {
    let key = key(seed, step);
    let mut best = None;
    let mut top = f64::NEG_INFINITY;
    for c in candidates {
        let logit = f64::from(c.logit);
        if logit + MAX_GUMBEL < top {
            continue;
        }
        let score = logit - (-from_key(key, c.id).ln()).ln();
        if score > top || (score == top && best.is_some_and(|b| c.id < b)) {
            (best, top) = (Some(c.id), score);
        }
    }
    best
}

/// Above `-ln(-ln(u))` for the largest u, 1 - 2^-33.
const MAX_GUMBEL: f64 = 22.9;

/// The part of [`uniform`] that depends on seed and step.
pub(super) fn key(seed: u64, step: u32) -> u32 {
    mix((seed >> 32) as u32 ^ mix(seed as u32 ^ mix(step)))
}

fn from_key(key: u32, id: u32) -> f64 {
    let h = mix(mix(id ^ key).wrapping_add(key));
    (f64::from(h) + 0.5) / 4_294_967_296.0
}

/// A bijection of 32-bit words in which every input bit flips about half of the output bits.
fn mix(x: u32) -> u32 {
    let x = x.wrapping_add(0x9e37_79b9); // so that 0 does not map to 0
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}
