//! Sixteen f32 side by side, and the choice of the instructions that hold them.
//!
//! All sums run over 16 lanes in the same order whatever the instructions are, so machines with fused multiply-add agree
//! to the last bit. Code generic over [`Lanes`] must be `#[inline(always)]` down to the methods here: only then does it
//! become part of the one function per instruction set (`avx512`, `avx2`) that may use wide registers.

/// What 16 values take in memory.
pub type Chunk = [f32; 16];

/// Arithmetic on 16 values at once.
pub trait Lanes: Copy + 'static {
    type V: Copy;
    /// Whether 16 accumulators fit in registers (else 12 half ones are all there is room for).
    const ROOMY: bool;
    fn zero() -> Self::V;
    fn load(x: &Chunk) -> Self::V;
    fn store(v: Self::V) -> Chunk;
    /// `a * b + c`.
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn fma1(a: f32, b: f32, c: f32) -> f32;

    /// The sum of the lanes, halves onto halves.
    #[inline(always)]
    fn sum(v: Self::V) -> f32 {
        let mut a = Self::store(v);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] += a[i + half];
            }
        }
        a[0]
    }
}

/// Work that is compiled once per instruction set.
pub trait Job {
    type Out;
    /// Must be `#[inline(always)]`.
    fn run<L: Lanes>(self) -> Self::Out;
}

/// Instructions that this machine has. Only this file can make one, and it asks the machine first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What the compiler may use everywhere: SSE2, NEON, simd128 or none.
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The widest that this machine has.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return Self(if wide { Kind::Avx512 } else { Kind::Avx2 });
        }
        Self(Kind::Plain)
    }

    /// What every machine of the target has.
    pub fn plain() -> Self {
        Self(Kind::Plain)
    }

    /// Runs the job with these instructions.
    #[inline]
    pub fn run<J: Job>(self, job: J) -> J::Out {
        match self.0 {
            Kind::Plain => job.run::<Plain>(),
            // SAFETY: only `best` makes this, and only where the machine has the instructions.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::avx2(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { x86::avx512(job) },
        }
    }

    /// Compiles a plain loop for these instructions. What `f` calls must be inlined.
    #[inline]
    pub fn wide<R>(self, f: impl FnOnce() -> R) -> R {
        self.run(Wide(f))
    }
}

struct Wide<F>(F);

impl<R, F: FnOnce() -> R> Job for Wide<F> {
    type Out = R;

    #[inline(always)]
    fn run<L: Lanes>(self) -> R {
        (self.0)()
    }
}

/// Sixteen plain values; the compiler finds the instructions.
#[derive(Clone, Copy)]
pub struct Plain;

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
    fn fma(a: Chunk, b: Chunk, c: Chunk) -> Chunk {
        std::array::from_fn(|i| Self::fma1(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn fma1(a: f32, b: f32, c: f32) -> f32 {
        // Without the instruction `mul_add` is a slow library call; aarch64 always has it.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) { a.mul_add(b, c) } else { a * b + c }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Chunk, Job, Lanes};

    /// # Safety
    /// The machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<J: Job>(job: J) -> J::Out {
        job.run::<Avx2>()
    }

    /// # Safety
    /// The machine has AVX2, FMA and AVX-512 F, BW, DQ and VL.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    pub unsafe fn avx512<J: Job>(job: J) -> J::Out {
        job.run::<Avx512>()
    }

    #[derive(Clone, Copy)]
    pub struct Avx2;

    impl Lanes for Avx2 {
        type V = (__m256, __m256);
        const ROOMY: bool = false;

        #[inline(always)]
        fn zero() -> Self::V {
            // SAFETY: this type is named only in `avx2`, so the instructions are there. So below.
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
    pub struct Avx512;

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
        fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            // SAFETY: as in `zero`.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        fn fma1(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }
    }
}
