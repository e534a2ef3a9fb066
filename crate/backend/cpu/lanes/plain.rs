//! Loops over arrays, which the compiler vectorises.

use super::traits::{Chunk, Ints, Lanes};
use crate::quant::f16_to_f32;

/// An array of sixteen values; runs on every machine.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Lanes for Plain {
    type V = Chunk;
    const ROOMY: bool = false;

    #[inline(always)]
    fn zero() -> Chunk {
        [0.0; 16]
    }

    #[inline(always)]
    fn load(x: &Chunk) -> Chunk {
        *x
    }

    #[inline(always)]
    fn store(v: Chunk) -> Chunk {
        v
    }

    #[inline(always)]
    fn splat(x: f32) -> Chunk {
        [x; 16]
    }

    #[inline(always)]
    fn unsigned(x: &[u8; 16]) -> Chunk {
        x.map(f32::from)
    }

    #[inline(always)]
    fn signed(x: &[u8; 16]) -> Chunk {
        x.map(|x| f32::from(x as i8))
    }

    #[inline(always)]
    fn nibbles(x: &[u8; 16]) -> (Chunk, Chunk) {
        (x.map(|x| f32::from(x & 15)), x.map(|x| f32::from(x >> 4)))
    }

    #[inline(always)]
    fn fma(a: Chunk, b: Chunk, c: Chunk) -> Chunk {
        std::array::from_fn(|i| Self::fma1(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn fma1(a: f32, b: f32, c: f32) -> f32 {
        // Without the instruction `mul_add` is a slow library call; aarch64 always has it.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
    }
}

impl Ints for Plain {
    const W: usize = 16;
    const TOKENS: usize = 8;
    const WIDE_BIAS: i32 = 0;
    type F = Chunk;
    type I = [i32; 16];
    type B = [u8; 64];

    #[inline(always)]
    fn f_zero() -> Chunk {
        [0.0; 16]
    }

    #[inline(always)]
    fn f_splat(x: f32) -> Chunk {
        [x; 16]
    }

    #[inline(always)]
    fn f_mul(a: Chunk, b: Chunk) -> Chunk {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn f_fma(a: Chunk, b: Chunk, c: Chunk) -> Chunk {
        <Self as Lanes>::fma(a, b, c)
    }

    #[inline(always)]
    fn f_store(v: Chunk, y: &mut [f32]) {
        y[..16].copy_from_slice(&v);
    }

    #[inline(always)]
    fn f_halves(x: &[u8]) -> Chunk {
        let x = &x.as_chunks::<2>().0[..16];
        std::array::from_fn(|i| f16_to_f32(u16::from_le_bytes(x[i])))
    }

    #[inline(always)]
    fn halves(x: &[u8; 32]) -> Chunk {
        Self::f_halves(x)
    }

    #[inline(always)]
    fn f_unsigned(x: &[u8]) -> Chunk {
        let x = &x[..16];
        std::array::from_fn(|i| f32::from(x[i]))
    }

    #[inline(always)]
    fn f_signed(x: &[u8]) -> Chunk {
        let x = &x[..16];
        std::array::from_fn(|i| f32::from(x[i] as i8))
    }

    #[inline(always)]
    fn f_nibbles(x: &[u8]) -> (Chunk, Chunk) {
        let x = &x[..16];
        (std::array::from_fn(|i| f32::from(x[i] & 15)), std::array::from_fn(|i| f32::from(x[i] >> 4)))
    }

    #[inline(always)]
    fn i_splat(x: i32) -> [i32; 16] {
        [x; 16]
    }

    #[inline(always)]
    fn i_to_f(v: [i32; 16]) -> Chunk {
        v.map(|x| x as f32)
    }

    #[inline(always)]
    fn b_load(x: &[u8]) -> [u8; 64] {
        *x.first_chunk().expect("64 bytes")
    }

    #[inline(always)]
    fn b_or(a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    fn b_shr(v: [u8; 64], n: u32, mask: u8) -> [u8; 64] {
        v.map(|x| x >> n & mask)
    }

    #[inline(always)]
    fn b_shl(v: [u8; 64], n: u32, mask: u8) -> [u8; 64] {
        v.map(|x| x << n & mask)
    }

    #[inline(always)]
    fn b_lookup(table: &[u8; 16], v: [u8; 64]) -> [u8; 64] {
        v.map(|x| table[usize::from(x & 15)])
    }

    #[inline(always)]
    fn dot(mut acc: [i32; 16], w: [u8; 64], x: [i8; 4]) -> [i32; 16] {
        for (acc, w) in acc.iter_mut().zip(w.as_chunks::<4>().0) {
            for c in 0..4 {
                *acc += i32::from(w[c]) * i32::from(x[c]);
            }
        }
        acc
    }

    #[inline(always)]
    fn dot_wide(acc: [i32; 16], w: [u8; 64], x: [i8; 4]) -> [i32; 16] {
        Self::dot(acc, w, x)
    }
}
