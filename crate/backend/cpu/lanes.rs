//! Sixteen f32 lanes, and the choice of the instruction set that implements them.
//!
//! All sums run over 16 lanes in the same order on every instruction set, so machines with fused multiply-add agree to
//! the last bit. Code generic over [`Lanes`] must be `#[inline(always)]` down to the methods here: only then is it
//! compiled into the one function per instruction set (`avx512`, `dotprod`) that may use wide registers.

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(not(target_arch = "wasm32"))]
mod plain;
mod traits;
#[cfg(target_arch = "wasm32")]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_ints;

#[cfg(not(target_arch = "wasm32"))]
use plain::Plain;
pub(super) use traits::{Chunk, Ints, Job, Lanes};

/// An instruction set of this machine. Only this file can make one, after it has detected the features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// What the compiler may use on every machine of the target: SSE2, NEON or none.
    #[cfg(not(target_arch = "wasm32"))]
    Plain,
    #[cfg(target_arch = "wasm32")]
    Wasm,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Short,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    Dotprod,
    #[cfg(target_arch = "aarch64")]
    I8mm,
}

impl Isa {
    /// Level 0 is what the compiler makes of plain loops for every machine of the target. On x86-64, 1 is AVX2 with FMA
    /// and F16C, 2 adds VNNI (int8 dot products) on 256-bit registers, 3 is AVX-512 with VNNI. On aarch64, 1 is NEON, 2
    /// adds signed int8 dot products (DotProd), 3 those of unsigned by signed (I8MM). Levels that this machine lacks
    /// are left out, so the highest level is always its widest.
    pub(super) fn at_most(level: u8) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            Self(match level {
                3.. if avx2 && avx512 => Kind::Avx512,
                2.. if avx2 && avx512 => Kind::Avx512Short,
                2.. if avx2 && is_x86_feature_detected!("avxvnni") => Kind::AvxVnni,
                1.. if avx2 => Kind::Avx2,
                _ => Kind::Plain,
            })
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            let neon = has!("neon");
            let dotprod = neon && has!("dotprod");
            Self(match level {
                3.. if dotprod && has!("i8mm") => Kind::I8mm,
                2.. if dotprod => Kind::Dotprod,
                1.. if neon => Kind::Neon,
                _ => Kind::Plain,
            })
        }
        // The other targets choose at compile time.
        #[cfg(target_arch = "wasm32")]
        {
            let _ = level;
            Self(Kind::Wasm)
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32")))]
        {
            let _ = level;
            Self(Kind::Plain)
        }
    }

    /// Runs the job with these instructions.
    #[inline]
    pub(super) fn run<J: Job>(self, job: J) -> J::Out {
        match self.0 {
            #[cfg(not(target_arch = "wasm32"))]
            Kind::Plain => job.run::<Plain>(),
            #[cfg(target_arch = "wasm32")]
            Kind::Wasm => wasm::wasm(job),
            // SAFETY: only `at_most` makes this, and only where the machine has the instructions.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { x86::avx2(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => unsafe { x86::avx_vnni(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Short => unsafe { x86::avx512_short(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { x86::avx512(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => unsafe { neon::neon(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod => unsafe { neon::dotprod(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Kind::I8mm => unsafe { neon::i8mm(job) },
        }
    }

    /// Compiles a plain loop for these instructions. Whatever `f` calls must be inlined.
    #[inline]
    pub(super) fn wide<R>(self, f: impl FnOnce() -> R) -> R {
        self.run(Wide(f))
    }
}

struct Wide<F>(F);

impl<R, F: FnOnce() -> R> Job for Wide<F> {
    type Out = R;

    #[inline(always)]
    fn run<L: Ints>(self) -> R {
        (self.0)()
    }
}
