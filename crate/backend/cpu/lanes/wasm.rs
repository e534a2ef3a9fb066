//! Sixteen f32 in four wasm registers, and int8 dot products for four rows per register.
//!
//! With the feature `relaxed-simd` a dot product is one instruction; without, bytes are widened to 16 bits first. A
//! browser that lacks an instruction refuses the whole module, so nothing is detected here.

use std::arch::wasm32::*;

use super::traits::{Chunk, Ints, Job, Lanes};

const RELAXED: bool = cfg!(feature = "relaxed-simd");

#[cfg_attr(feature = "relaxed-simd", target_feature(enable = "relaxed-simd"))]
pub(super) fn wasm<J: Job>(job: J) -> J::Out {
    job.run::<Wasm>()
}

#[derive(Clone, Copy)]
pub(super) struct Wasm;

#[cfg(feature = "relaxed-simd")]
mod relaxed {
    use std::arch::wasm32::*;

    #[inline(always)]
    pub(super) fn fma(a: v128, b: v128, c: v128) -> v128 {
        f32x4_relaxed_madd(a, b, c)
    }

    /// `w` has seven bits: with the eighth, engines may differ.
    #[inline(always)]
    pub(super) fn dot(acc: v128, w: v128, x: v128) -> v128 {
        i32x4_relaxed_dot_i8x16_i7x16_add(x, w, acc)
    }
}

#[cfg(not(feature = "relaxed-simd"))]
mod relaxed {
    use std::arch::wasm32::*;

    #[inline(always)]
    pub(super) fn fma(a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }

    #[inline(always)]
    pub(super) fn dot(_: v128, _: v128, _: v128) -> v128 {
        unreachable!("only with RELAXED")
    }
}

/// The first 16 bytes.
#[inline(always)]
fn load(x: &[u8]) -> v128 {
    let x = &x[..16];
    // SAFETY: x has 16 bytes; the load needs no alignment.
    unsafe { v128_load(x.as_ptr().cast()) }
}

/// 16 bytes as unsigned integers, in four registers.
#[inline(always)]
fn widen(x: v128) -> [v128; 4] {
    let (low, high) = (u16x8_extend_low_u8x16(x), u16x8_extend_high_u8x16(x));
    [
        u32x4_extend_low_u16x8(low),
        u32x4_extend_high_u16x8(low),
        u32x4_extend_low_u16x8(high),
        u32x4_extend_high_u16x8(high),
    ]
    .map(|x| f32x4_convert_u32x4(x))
}

impl Lanes for Wasm {
    type V = [v128; 4];
    const ROOMY: bool = false;
    // Engines use 16 registers on x86-64, where four rows would take 21.
    const ROWS: usize = 2;

    #[inline(always)]
    fn zero() -> Self::V {
        [f32x4_splat(0.0); 4]
    }

    #[inline(always)]
    fn load(x: &Chunk) -> Self::V {
        let x: &[u8; 64] = bytemuck::cast_ref(x);
        [0, 16, 32, 48].map(|at| load(&x[at..]))
    }

    #[inline(always)]
    fn store(v: Self::V) -> Chunk {
        let mut x = [0.0; 16];
        for (v, x) in v.iter().zip(x.as_chunks_mut::<4>().0) {
            Self::f_store(*v, x);
        }
        x
    }

    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        [f32x4_splat(x); 4]
    }

    #[inline(always)]
    fn unsigned(x: &[u8; 16]) -> Self::V {
        widen(load(x))
    }

    #[inline(always)]
    fn signed(x: &[u8; 16]) -> Self::V {
        let x = load(x);
        let (low, high) = (i16x8_extend_low_i8x16(x), i16x8_extend_high_i8x16(x));
        [
            i32x4_extend_low_i16x8(low),
            i32x4_extend_high_i16x8(low),
            i32x4_extend_low_i16x8(high),
            i32x4_extend_high_i16x8(high),
        ]
        .map(|x| f32x4_convert_i32x4(x))
    }

    #[inline(always)]
    fn nibbles(x: &[u8; 16]) -> (Self::V, Self::V) {
        let x = load(x);
        (widen(Self::b_shr(x, 0, 15)), widen(Self::b_shr(x, 4, 15)))
    }

    #[inline(always)]
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| relaxed::fma(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn fma1(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

impl Ints for Wasm {
    const W: usize = 4;
    const PAIRS: bool = RELAXED;
    const WIDE_BIAS: i32 = if RELAXED { 128 } else { 0 };
    const WIDE_NEGATIVE: i32 = RELAXED as i32;
    type F = v128;
    /// Without the instruction: sums of columns 0 + 1 and 2 + 3, of rows 0 and 1, then of rows 2 and 3.
    type I = (v128, v128);
    type B = v128;

    #[inline(always)]
    fn f_zero() -> v128 {
        f32x4_splat(0.0)
    }

    #[inline(always)]
    fn f_splat(x: f32) -> v128 {
        f32x4_splat(x)
    }

    #[inline(always)]
    fn f_mul(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }

    #[inline(always)]
    fn f_fma(a: v128, b: v128, c: v128) -> v128 {
        relaxed::fma(a, b, c)
    }

    #[inline(always)]
    fn f_store(v: v128, y: &mut [f32]) {
        let y = &mut y[..4];
        // SAFETY: y has room for 4 values; the store needs no alignment.
        unsafe { v128_store(y.as_mut_ptr().cast(), v) }
    }

    #[inline(always)]
    fn f_halves(x: &[u8]) -> v128 {
        let x = u64::from_le_bytes(*x.first_chunk().expect("8 bytes"));
        // Sign, exponent and fraction are moved to their place in f32; then a product corrects the exponent's bias, which
        // also normalises subnormal numbers. The greatest exponent stays the greatest.
        let x = i32x4_shl(i32x4_extend_low_i16x8(u64x2(x, 0)), 13);
        let greatest = i32x4_splat(0x0f80_0000);
        let special = v128_and(i32x4_eq(v128_and(x, greatest), greatest), u32x4_splat(0x7f80_0000));
        let finite = f32x4_mul(v128_and(x, u32x4_splat(0x8fff_e000)), f32x4_splat(f32::from_bits((254 - 15) << 23)));
        v128_or(finite, special)
    }

    #[inline(always)]
    fn halves(x: &[u8; 32]) -> Self::V {
        [0, 8, 16, 24].map(
            #[inline(always)]
            |at| Self::f_halves(&x[at..]),
        )
    }

    #[inline(always)]
    fn f_unsigned(x: &[u8]) -> v128 {
        let x = u32::from_le_bytes(*x.first_chunk().expect("4 bytes"));
        f32x4_convert_u32x4(u32x4_extend_low_u16x8(u16x8_extend_low_u8x16(u32x4(x, 0, 0, 0))))
    }

    #[inline(always)]
    fn f_signed(x: &[u8]) -> v128 {
        let x = u32::from_le_bytes(*x.first_chunk().expect("4 bytes"));
        f32x4_convert_i32x4(i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(u32x4(x, 0, 0, 0))))
    }

    #[inline(always)]
    fn f_nibbles(x: &[u8]) -> (v128, v128) {
        let x = u32::from_le_bytes(*x.first_chunk().expect("4 bytes"));
        let half = |x: u32| (x & 0x0f0f_0f0f).to_le_bytes();
        (Self::f_unsigned(&half(x)), Self::f_unsigned(&half(x >> 4)))
    }

    #[inline(always)]
    fn i_splat(x: i32) -> Self::I {
        if RELAXED { (i32x4_splat(x), i32x4_splat(0)) } else { (i32x4(x, 0, x, 0), i32x4(x, 0, x, 0)) }
    }

    #[inline(always)]
    fn i_to_f((low, high): Self::I) -> v128 {
        if RELAXED {
            return f32x4_convert_i32x4(low);
        }
        let (even, odd) = (i32x4_shuffle::<0, 2, 4, 6>(low, high), i32x4_shuffle::<1, 3, 5, 7>(low, high));
        f32x4_convert_i32x4(i32x4_add(even, odd))
    }

    #[inline(always)]
    fn i_add(a: Self::I, b: Self::I) -> Self::I {
        (i32x4_add(a.0, b.0), i32x4_add(a.1, b.1))
    }

    #[inline(always)]
    fn b_load(x: &[u8]) -> v128 {
        load(x)
    }

    #[inline(always)]
    fn b_or(a: v128, b: v128) -> v128 {
        v128_or(a, b)
    }

    #[inline(always)]
    fn b_shr(v: v128, n: u32, mask: u8) -> v128 {
        v128_and(u16x8_shr(v, n), u8x16_splat(mask))
    }

    #[inline(always)]
    fn b_shl(v: v128, n: u32, mask: u8) -> v128 {
        v128_and(u16x8_shl(v, n), u8x16_splat(mask))
    }

    #[inline(always)]
    fn b_lookup(table: &[u8; 16], v: v128) -> v128 {
        i8x16_swizzle(load(table), v)
    }

    #[inline(always)]
    fn dot((low, high): Self::I, w: v128, x: [i8; 4]) -> Self::I {
        let x = i32x4_splat(i32::from_le_bytes(x.map(|x| x as u8)));
        if RELAXED {
            return (relaxed::dot(low, w, x), high);
        }
        let x = i16x8_extend_low_i8x16(x);
        (
            i32x4_add(low, i32x4_dot_i16x8(u16x8_extend_low_u8x16(w), x)),
            i32x4_add(high, i32x4_dot_i16x8(u16x8_extend_high_u8x16(w), x)),
        )
    }

    #[inline(always)]
    fn dot_wide((low, high): Self::I, w: v128, x: [i8; 4]) -> Self::I {
        if !RELAXED {
            return Self::dot((low, high), w, x);
        }
        // The instruction takes one operand of 7 bits: the magnitudes of x. Their signs go to the other one, w - 128,
        // whose bits are all inverted where x is negative: that gives -(w - 128) - 1 and never overflows.
        let x = i32x4_splat(i32::from_le_bytes(x.map(|x| x as u8)));
        let w = v128_xor(w, v128_xor(i8x16_lt(x, i8x16_splat(0)), u8x16_splat(128)));
        (relaxed::dot(low, i8x16_abs(x), w), high)
    }
}
