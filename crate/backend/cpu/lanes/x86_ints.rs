//! Int8 dot products: 8 rows in an AVX2 register, 16 in one of AVX-512.

use std::arch::x86_64::*;

use super::traits::Ints;
use super::x86::{Avx2, Avx512, MADD, VNNI};

impl<const DOT: u8> Ints for Avx2<DOT> {
    const W: usize = 8;
    /// VNNI multiplies unsigned by signed bytes; AVX2 would overflow its 16 bits, so there they are converted to
    /// signed.
    const WIDE_BIAS: i32 = if DOT == MADD { 128 } else { 0 };
    type F = __m256;
    type I = __m256i;
    type B = __m256i;

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: a hint reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn f_zero() -> __m256 {
        // SAFETY: this type is named only where the machine has its instructions (`x86::avx2` and its like). So below.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    fn f_splat(x: f32) -> __m256 {
        // SAFETY: as in `f_zero`.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn f_mul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as in `f_zero`.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn f_fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as in `f_zero`.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn f_store(v: __m256, y: &mut [f32]) {
        let y = &mut y[..8];
        // SAFETY: y has room for 8 values; the store needs no alignment.
        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn f_halves(x: &[u8]) -> __m256 {
        let x = &x[..16];
        // SAFETY: x has 16 bytes; the load needs no alignment.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn halves(x: &[u8; 32]) -> Self::V {
        (Self::f_halves(x), Self::f_halves(&x[16..]))
    }

    #[inline(always)]
    fn f_unsigned(x: &[u8]) -> __m256 {
        let x = &x[..8];
        // SAFETY: x has 8 bytes; the load needs no alignment.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn f_signed(x: &[u8]) -> __m256 {
        let x = &x[..8];
        // SAFETY: x has 8 bytes; the load needs no alignment.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(x.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn f_nibbles(x: &[u8]) -> (__m256, __m256) {
        let x = u64::from_le_bytes(*x.first_chunk().expect("8 bytes"));
        let half = |x: u64| (x & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes();
        (Self::f_unsigned(&half(x)), Self::f_unsigned(&half(x >> 4)))
    }

    #[inline(always)]
    fn i_splat(x: i32) -> __m256i {
        // SAFETY: as in `f_zero`.
        unsafe { _mm256_set1_epi32(x) }
    }

    #[inline(always)]
    fn i_to_f(v: __m256i) -> __m256 {
        // SAFETY: as in `f_zero`.
        unsafe { _mm256_cvtepi32_ps(v) }
    }

    #[inline(always)]
    fn b_load(x: &[u8]) -> __m256i {
        let x = &x[..32];
        // SAFETY: x has 32 bytes; the load needs no alignment.
        unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn b_or(a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: as in `f_zero`.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    fn b_shr(v: __m256i, n: u32, mask: u8) -> __m256i {
        // SAFETY: as in `f_zero`. The count is a constant once this is inlined.
        unsafe { _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(n as i32)), _mm256_set1_epi8(mask as i8)) }
    }

    #[inline(always)]
    fn b_shl(v: __m256i, n: u32, mask: u8) -> __m256i {
        // SAFETY: as in `b_shr`.
        unsafe { _mm256_and_si256(_mm256_sll_epi16(v, _mm_cvtsi32_si128(n as i32)), _mm256_set1_epi8(mask as i8)) }
    }

    #[inline(always)]
    fn b_lookup(table: &[u8; 16], v: __m256i) -> __m256i {
        // SAFETY: the table has 16 bytes; the load needs no alignment.
        unsafe { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())), v) }
    }

    #[inline(always)]
    fn dot(acc: __m256i, w: __m256i, x: [i8; 4]) -> __m256i {
        let x = i32::from_le_bytes(x.map(|x| x as u8));
        // SAFETY: as in `f_zero`; `DOT` says which of the three there is.
        unsafe {
            let x = _mm256_set1_epi32(x);
            match DOT {
                // Two products of at most 127 * 127 fit into 16 bits.
                MADD => _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))),
                VNNI => _mm256_dpbusd_avx_epi32(acc, w, x),
                _ => _mm256_dpbusd_epi32(acc, w, x),
            }
        }
    }

    #[inline(always)]
    fn dot_wide(acc: __m256i, w: __m256i, x: [i8; 4]) -> __m256i {
        if DOT != MADD {
            return Self::dot(acc, w, x);
        }
        let x = i32::from_le_bytes(x.map(|x| x as u8));
        // SAFETY: as in `f_zero`. The sign moves over to x; two products of at most 128 * 127 fit into 16 bits.
        unsafe {
            let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
            let x = _mm256_sign_epi8(_mm256_set1_epi32(x), w);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), x);
            _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
}

impl Ints for Avx512 {
    const W: usize = 16;
    const TOKENS: usize = 8;
    const WIDE_BIAS: i32 = 0;
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

    #[inline(always)]
    fn prefetch(at: *const u8) {
        // SAFETY: a hint reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn f_zero() -> __m512 {
        // SAFETY: this type is named only in `x86::avx512`, so the instructions are there. So below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn f_splat(x: f32) -> __m512 {
        // SAFETY: as in `f_zero`.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn f_mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `f_zero`.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn f_fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as in `f_zero`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn f_store(v: __m512, y: &mut [f32]) {
        let y = &mut y[..16];
        // SAFETY: y has room for 16 values; the store needs no alignment.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn f_halves(x: &[u8]) -> __m512 {
        let x = &x[..32];
        // SAFETY: x has 32 bytes; the load needs no alignment.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn halves(x: &[u8; 32]) -> Self::V {
        Self::f_halves(x)
    }

    #[inline(always)]
    fn f_unsigned(x: &[u8]) -> __m512 {
        let x = &x[..16];
        // SAFETY: x has 16 bytes; the load needs no alignment.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn f_signed(x: &[u8]) -> __m512 {
        let x = &x[..16];
        // SAFETY: x has 16 bytes; the load needs no alignment.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn f_nibbles(x: &[u8]) -> (__m512, __m512) {
        let x = u128::from_le_bytes(*x.first_chunk().expect("16 bytes"));
        let half = |x: u128| (x & 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f).to_le_bytes();
        (Self::f_unsigned(&half(x)), Self::f_unsigned(&half(x >> 4)))
    }

    #[inline(always)]
    fn i_splat(x: i32) -> __m512i {
        // SAFETY: as in `f_zero`.
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    fn i_to_f(v: __m512i) -> __m512 {
        // SAFETY: as in `f_zero`.
        unsafe { _mm512_cvtepi32_ps(v) }
    }

    #[inline(always)]
    fn b_load(x: &[u8]) -> __m512i {
        let x = &x[..64];
        // SAFETY: x has 64 bytes; the load needs no alignment.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn b_or(a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: as in `f_zero`.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn b_shr(v: __m512i, n: u32, mask: u8) -> __m512i {
        // SAFETY: as in `f_zero`. The count is a constant once this is inlined.
        unsafe { _mm512_and_si512(_mm512_srl_epi16(v, _mm_cvtsi32_si128(n as i32)), _mm512_set1_epi8(mask as i8)) }
    }

    #[inline(always)]
    fn b_shl(v: __m512i, n: u32, mask: u8) -> __m512i {
        // SAFETY: as in `b_shr`.
        unsafe { _mm512_and_si512(_mm512_sll_epi16(v, _mm_cvtsi32_si128(n as i32)), _mm512_set1_epi8(mask as i8)) }
    }

    #[inline(always)]
    fn b_lookup(table: &[u8; 16], v: __m512i) -> __m512i {
        // SAFETY: the table has 16 bytes; the load needs no alignment.
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), v) }
    }

    #[inline(always)]
    fn dot(acc: __m512i, w: __m512i, x: [i8; 4]) -> __m512i {
        // SAFETY: as in `f_zero`.
        unsafe { _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(i32::from_le_bytes(x.map(|x| x as u8)))) }
    }

    #[inline(always)]
    fn dot_wide(acc: __m512i, w: __m512i, x: [i8; 4]) -> __m512i {
        Self::dot(acc, w, x)
    }
}
