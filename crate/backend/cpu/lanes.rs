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
    fn splat(x: f32) -> Self::V;
    /// Bytes as numbers from 0.
    fn unsigned(x: &[u8; 16]) -> Self::V;
    /// Bytes as numbers from -128.
    fn signed(x: &[u8; 16]) -> Self::V;
    /// The low and the high halves of bytes.
    fn nibbles(x: &[u8; 16]) -> (Self::V, Self::V);
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
    /// Level 0 is what every machine of the target has, 1 is AVX2 with FMA, 2 is AVX-512. What this machine lacks is
    /// left out, so the highest level is always its best.
    pub fn at_most(level: u8) -> Self {
        #[cfg(target_arch = "x86_64")]
        if level >= 1 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            return Self(if level >= 2 && wide { Kind::Avx512 } else { Kind::Avx2 });
        }
        let _ = level; // the other targets choose when they are compiled
        Self(Kind::Plain)
    }

    /// Runs the job with these instructions.
    #[inline]
    pub fn run<J: Job>(self, job: J) -> J::Out {
        match self.0 {
            Kind::Plain => job.run::<Plain>(),
            // SAFETY: only `at_most` makes this, and only where the machine has the instructions.
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

#[cfg(target_arch = "x86_64")]
mod x86;
