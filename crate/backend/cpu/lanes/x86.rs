//! Sixteen f32 in two AVX2 registers or in one of AVX-512.

use std::arch::x86_64::*;

use super::traits::{Chunk, Job, Lanes};

/// # Safety
/// The machine has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn avx2<J: Job>(job: J) -> J::Out {
    job.run::<Avx2<MADD>>()
}

/// # Safety
/// The machine has AVX2, FMA, F16C and AVX-VNNI.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub(super) unsafe fn avx_vnni<J: Job>(job: J) -> J::Out {
    job.run::<Avx2<VNNI>>()
}

/// # Safety
/// The machine has AVX2, FMA, F16C and AVX-512 F, BW, DQ, VL and VNNI.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn avx512_short<J: Job>(job: J) -> J::Out {
    job.run::<Avx2<VNNI_512>>()
}

/// # Safety
/// As [`avx512_short`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn avx512<J: Job>(job: J) -> J::Out {
    job.run::<Avx512>()
}

/// How int8 is multiplied in 256-bit registers: by the instructions of AVX2, of AVX-VNNI, or of AVX-512 VNNI.
pub(super) const MADD: u8 = 0;
pub(super) const VNNI: u8 = 1;
pub(super) const VNNI_512: u8 = 2;

#[derive(Clone, Copy)]
pub(super) struct Avx2<const DOT: u8>;

impl<const DOT: u8> Lanes for Avx2<DOT> {
    type V = (__m256, __m256);
    const ROOMY: bool = false;

    #[inline(always)]
    fn zero() -> Self::V {
        // SAFETY: this type is named only in the functions above, so the instructions are there. So below.
        unsafe { (_mm256_setzero_ps(), _mm256_setzero_ps()) }
    }

    #[inline(always)]
    fn load(x: &Chunk) -> Self::V {
        // SAFETY: x has 16 values; the loads need no alignment.
        unsafe { (_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x[8..].as_ptr())) }
    }

    #[inline(always)]
    fn store(v: Self::V) -> Chunk {
        let mut x = [0.0; 16];
        // SAFETY: x has room for 16 values; the stores need no alignment.
        unsafe {
            _mm256_storeu_ps(x.as_mut_ptr(), v.0);
            _mm256_storeu_ps(x[8..].as_mut_ptr(), v.1);
        }
        x
    }

    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        // SAFETY: as in `zero`.
        unsafe { (_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    fn unsigned(x: &[u8; 16]) -> Self::V {
        // SAFETY: as in `zero`; x has 16 bytes.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            (
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(x))),
            )
        }
    }

    #[inline(always)]
    fn signed(x: &[u8; 16]) -> Self::V {
        // SAFETY: as in `zero`; x has 16 bytes.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            (
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))),
            )
        }
    }

    #[inline(always)]
    fn nibbles(x: &[u8; 16]) -> (Self::V, Self::V) {
        // SAFETY: as in `zero`; x has 16 bytes.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            let mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(x, mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(x), mask);
            (
                (
                    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low)),
                    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(low))),
                ),
                (
                    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high)),
                    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(high))),
                ),
            )
        }
    }

    #[inline(always)]
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: as in `zero`.
        unsafe { (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
    }

    #[inline(always)]
    fn fma1(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Avx512;

impl Lanes for Avx512 {
    type V = __m512;
    const ROOMY: bool = true;

    #[inline(always)]
    fn zero() -> Self::V {
        // SAFETY: this type is named only in `avx512`, so the instructions are there. So below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn load(x: &Chunk) -> Self::V {
        // SAFETY: x has 16 values; the load needs no alignment.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(v: Self::V) -> Chunk {
        let mut x = [0.0; 16];
        // SAFETY: x has room for 16 values; the store needs no alignment.
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), v) };
        x
    }

    #[inline(always)]
    fn splat(x: f32) -> Self::V {
        // SAFETY: as in `zero`.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn unsigned(x: &[u8; 16]) -> Self::V {
        // SAFETY: as in `zero`; x has 16 bytes.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(x))
        }
    }

    #[inline(always)]
    fn signed(x: &[u8; 16]) -> Self::V {
        // SAFETY: as in `zero`; x has 16 bytes.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x))
        }
    }

    #[inline(always)]
    fn nibbles(x: &[u8; 16]) -> (Self::V, Self::V) {
        // SAFETY: as in `zero`; x has 16 bytes.
        unsafe {
            let x = _mm_loadu_si128(x.as_ptr().cast());
            let mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(x, mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(x), mask);
            (_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(low)), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(high)))
        }
    }

    #[inline(always)]
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: as in `zero`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn fma1(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}
