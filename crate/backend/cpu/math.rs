//! Functions in f32 that the compiler can vectorise: no branches, no calls. NaN stays NaN.

use crate::graph::Act;

/// `e^x`, within 2 units in the last place; outside of -87..88 the value at the nearer end.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has few bits, so that `n * HIGH` is exact.
    const HIGH: f32 = 355.0 / 512.0;
    const LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let t = x * std::f32::consts::LOG2_E + ROUND;
    let n = t - ROUND;
    let r = x - n * HIGH - n * LOW; // |r| <= ln 2 / 2
    // The first terms of the series: the next one is r^8 / 8!, below 6e-9.
    let tail = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let series = 1.0 + r + r * r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * tail)));
    series * f32::from_bits((t.to_bits() << 23).wrapping_add(127 << 23))
}

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x * sigmoid(x)`; the tanh form of GELU, which is `x * sigmoid(2 u)` with u the argument of its tanh; or GELU.
#[inline(always)]
pub(super) fn act(act: Act, x: f32) -> f32 {
    const TWICE_ROOT: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2; // 2 sqrt(2 / pi)
    match act {
        Act::Silu => x / (1.0 + exp(-x)),
        Act::GeluTanh => x / (1.0 + exp(-TWICE_ROOT * (x + 0.044715 * x * x * x))),
        Act::Gelu => x.max(0.0) - 0.5 * x.abs() * erfc(x.abs() * std::f32::consts::FRAC_1_SQRT_2),
    }
}

/// `1 - erf(x)` for x >= 0, within 1.5e-7: number 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions.
#[inline(always)]
fn erfc(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let tail = 1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4);
    t * (0.254_829_6 + t * (-0.284_496_74 + t * tail)) * exp(-x * x)
}

/// `cap * tanh(x / cap)`.
#[inline(always)]
pub(super) fn softcap(x: f32, cap: f32) -> f32 {
    let u = x / cap;
    // Near zero `1 - 2 / (e^2u + 1)` cancels; the series does not.
    let s = u * u;
    let small = u * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 - s * (17.0 / 315.0))));
    let large = 1.0 - 2.0 / (exp(2.0 * u) + 1.0);
    cap * if s < 0.01 { small } else { large }
}
