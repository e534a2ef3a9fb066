//! Sixteen f32 in four NEON registers, and int8 dot products for 4 rows per register.

use std::arch::aarch64::*;
use std::arch::asm;

use super::traits::{Chunk, Ints, Job, Lanes};

/// # Safety
/// The machine has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn neon<J: Job>(job: J) -> J::Out {
    job.run::<Neon<MULL>>()
}

/// # Safety
/// The machine has NEON with dot products.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dotprod<J: Job>(job: J) -> J::Out {
    job.run::<Neon<SDOT>>()
}

/// # Safety
/// The machine has NEON with dot products, also those of the matrix extension (I8MM).
#[target_feature(enable = "neon,dotprod,i8mm")]
pub(super) unsafe fn i8mm<J: Job>(job: J) -> J::Out {
    job.run::<Neon<USDOT>>()
}

/// How int8 is multiplied: widened to 16 bits and added in pairs; in fours, both signed; or also unsigned by signed.
const MULL: u8 = 0;
const SDOT: u8 = 1;
const USDOT: u8 = 2;

/// `acc + w * x` in each lane of four bytes. `std` has no stable intrinsic for it yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut acc: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller has dot products; the instruction touches nothing but these registers.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// The same with unsigned w.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot(mut acc: int32x4_t, w: uint8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller has I8MM; the instruction touches nothing but these registers.
    unsafe {
        asm!(
            "usdot {acc:v}.4s, {w:v}.16b, {x:v}.16b",
            acc = inout(vreg) acc, w = in(vreg) w, x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// All 16 bytes as unsigned integers.
#[inline]
#[target_feature(enable = "neon")]
fn widen(x: uint8x16_t) -> [float32x4_t; 4] {
    let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_high_u8(x));
    [vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)]
        .map(|x| vcvtq_f32_u32(x))
}

/// All 16 bytes as signed integers.
#[inline]
#[target_feature(enable = "neon")]
fn widen_signed(x: int8x16_t) -> [float32x4_t; 4] {
    let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
    [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)]
        .map(|x| vcvtq_f32_s32(x))
}

#[derive(Clone, Copy)]
pub(super) struct Neon<const DOT: u8>;

impl<const DOT: u8> Lanes for Neon<DOT> {
    type V = [float32x4_t; 4];
    const ROOMY: bool = false;

    #[inline(always)]
    fn zero() -> Self::V {
        Self::splat(0.0)
    }

    #[inline(always)]
    fn load(x: &Chunk) -> Self::V {
        // SAFETY: this type is named only in the functions above, so the instructions are there. So below. And x has 16
        // values; the loads need no alignment.
        std::array::from_fn(|i| unsafe { vld1q_f32(x[4 * i..].as_ptr()) })
    }

    #[inline(always)]
    fn store(v: Self::V) -> Chunk {
        let mut x = [0.0; 16];
        for i in 0..4 {
            // SAFETY: x has room for 16 values; the stores need no alignment.
            unsafe { vst1q_f32(x[4 * i..].as_mut_ptr(), v[i]) };
        }
        x
    }

    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        // SAFETY: as in `load`.
        unsafe { [vdupq_n_f32(x); 4] }
    }

    #[inline(always)]
    fn unsigned(x: &[u8; 16]) -> Self::V {
        // SAFETY: as in `load`; x has 16 bytes.
        unsafe { widen(vld1q_u8(x.as_ptr())) }
    }

    #[inline(always)]
    fn signed(x: &[u8; 16]) -> Self::V {
        // SAFETY: as in `load`; x has 16 bytes.
        unsafe { widen_signed(vreinterpretq_s8_u8(vld1q_u8(x.as_ptr()))) }
    }

    #[inline(always)]
    fn nibbles(x: &[u8; 16]) -> (Self::V, Self::V) {
        // SAFETY: as in `load`; x has 16 bytes.
        unsafe {
            let x = vld1q_u8(x.as_ptr());
            (widen(vandq_u8(x, vdupq_n_u8(15))), widen(vshrq_n_u8::<4>(x)))
        }
    }

    #[inline(always)]
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: as in `load`.
        std::array::from_fn(|i| unsafe { vfmaq_f32(c[i], a[i], b[i]) })
    }

    #[inline(always)]
    fn fma1(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// The first four bytes, as unsigned integers in 16 bits.
#[inline]
#[target_feature(enable = "neon")]
fn four(x: &[u8]) -> uint16x8_t {
    vmovl_u8(vcreate_u8(u32::from_le_bytes(*x.first_chunk().expect("4 bytes")).into()))
}

impl<const DOT: u8> Ints for Neon<DOT> {
    const W: usize = 4;
    const TOKENS: usize = 8;
    /// Only `usdot` multiplies unsigned by signed bytes; for the others they are converted to signed.
    const WIDE_BIAS: i32 = if DOT == USDOT { 0 } else { 128 };
    type F = float32x4_t;
    type I = int32x4_t;
    type B = uint8x16_t;

    #[inline(always)]
    fn f_zero() -> float32x4_t {
        Self::f_splat(0.0)
    }

    #[inline(always)]
    fn f_splat(x: f32) -> float32x4_t {
        // SAFETY: as in `load`. So below.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn f_mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: as in `load`.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn f_fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: as in `load`.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn f_store(v: float32x4_t, y: &mut [f32]) {
        let y = &mut y[..4];
        // SAFETY: y has room for 4 values; the store needs no alignment.
        unsafe { vst1q_f32(y.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn f_halves(x: &[u8]) -> float32x4_t {
        let x = &x[..8];
        // SAFETY: x has 8 bytes; the load needs no alignment.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(x.as_ptr()))) }
    }

    #[inline(always)]
    fn halves(x: &[u8; 32]) -> Self::V {
        [0, 8, 16, 24].map(
            #[inline(always)]
            |at| Self::f_halves(&x[at..]),
        )
    }

    #[inline(always)]
    fn f_unsigned(x: &[u8]) -> float32x4_t {
        // SAFETY: as in `load`.
        unsafe { vcvtq_f32_u32(vmovl_u16(vget_low_u16(four(x)))) }
    }

    #[inline(always)]
    fn f_signed(x: &[u8]) -> float32x4_t {
        let x: [u8; 4] = *x.first_chunk().expect("4 bytes");
        // SAFETY: as in `load`.
        unsafe {
            let x = vmovl_s8(vcreate_s8(u32::from_le_bytes(x).into()));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(x)))
        }
    }

    #[inline(always)]
    fn f_nibbles(x: &[u8]) -> (float32x4_t, float32x4_t) {
        // SAFETY: as in `load`.
        unsafe {
            let x = vget_low_u16(four(x));
            let (low, high) = (vand_u16(x, vdup_n_u16(15)), vshr_n_u16::<4>(x));
            (vcvtq_f32_u32(vmovl_u16(low)), vcvtq_f32_u32(vmovl_u16(high)))
        }
    }

    #[inline(always)]
    fn i_splat(x: i32) -> int32x4_t {
        // SAFETY: as in `load`.
        unsafe { vdupq_n_s32(x) }
    }

    #[inline(always)]
    fn i_to_f(v: int32x4_t) -> float32x4_t {
        // SAFETY: as in `load`.
        unsafe { vcvtq_f32_s32(v) }
    }

    #[inline(always)]
    fn b_load(x: &[u8]) -> uint8x16_t {
        let x = &x[..16];
        // SAFETY: x has 16 bytes; the load needs no alignment.
        unsafe { vld1q_u8(x.as_ptr()) }
    }

    #[inline(always)]
    fn b_or(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        // SAFETY: as in `load`.
        unsafe { vorrq_u8(a, b) }
    }

    #[inline(always)]
    fn b_shr(v: uint8x16_t, n: u32, mask: u8) -> uint8x16_t {
        // SAFETY: as in `load`. A negative count shifts to the right.
        unsafe { vandq_u8(vshlq_u8(v, vdupq_n_s8(-(n as i8))), vdupq_n_u8(mask)) }
    }

    #[inline(always)]
    fn b_shl(v: uint8x16_t, n: u32, mask: u8) -> uint8x16_t {
        // SAFETY: as in `load`.
        unsafe { vandq_u8(vshlq_u8(v, vdupq_n_s8(n as i8)), vdupq_n_u8(mask)) }
    }

    #[inline(always)]
    fn b_lookup(table: &[u8; 16], v: uint8x16_t) -> uint8x16_t {
        // SAFETY: the table has 16 bytes; the load needs no alignment.
        unsafe { vqtbl1q_u8(vld1q_u8(table.as_ptr()), v) }
    }

    #[inline(always)]
    fn dot(acc: int32x4_t, w: uint8x16_t, x: [i8; 4]) -> int32x4_t {
        let x = i32::from_le_bytes(x.map(|x| x as u8));
        // SAFETY: as in `load`; `DOT` says which of the three there is, and the last has what the second has.
        unsafe {
            let (w, x) = (vreinterpretq_s8_u8(w), vreinterpretq_s8_s32(vdupq_n_s32(x)));
            if DOT != MULL {
                return sdot(acc, w, x);
            }
            // Two products of at most 128 * 127 fit into 16 bits.
            let (low, high) = (vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x));
            vpadalq_s16(acc, vpaddq_s16(low, high))
        }
    }

    #[inline(always)]
    fn dot_wide(acc: int32x4_t, w: uint8x16_t, x: [i8; 4]) -> int32x4_t {
        // SAFETY: as in `dot`.
        unsafe {
            if DOT == USDOT {
                let x = i32::from_le_bytes(x.map(|x| x as u8));
                return usdot(acc, w, vreinterpretq_s8_s32(vdupq_n_s32(x)));
            }
            Self::dot(acc, veorq_u8(w, vdupq_n_u8(128)), x)
        }
    }
}
