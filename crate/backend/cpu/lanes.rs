//! Sixteen f32 side by side, and the choice of the instructions that hold them.
//!
//! All sums run over 16 lanes in the same order whatever the instructions are, so machines with fused multiply-add agree
//! to the last bit. Code generic over [`Lanes`] must be `#[inline(always)]` down to the methods here: only then does it
//! become part of the one function per instruction set (`avx512`, `avx2`) that may use wide registers.

mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_ints;

use plain::Plain;

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

/// Dot products of bytes, for `W` rows of a matrix side by side: each lane of 32 bits belongs to one row.
pub trait Ints: Lanes {
    /// Rows of a register: 4, 8 or 16.
    const W: usize;
    /// `dot_wide` leaves out this many times the sum of x.
    const WIDE_BIAS: i32;
    /// W values.
    type F: Copy;
    /// W whole numbers.
    type I: Copy;
    /// 4 bytes of each of W rows.
    type B: Copy;
    fn f_zero() -> Self::F;
    fn f_splat(x: f32) -> Self::F;
    fn f_mul(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`.
    fn f_fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Stores W values at the start of `y`.
    fn f_store(v: Self::F, y: &mut [f32]);
    /// The first W f16 of `x`, little-endian.
    fn f_halves(x: &[u8]) -> Self::F;
    /// The first W bytes as numbers from 0.
    fn f_unsigned(x: &[u8]) -> Self::F;
    /// The first W bytes as numbers from -128.
    fn f_signed(x: &[u8]) -> Self::F;
    /// The low and the high halves of the first W bytes.
    fn f_nibbles(x: &[u8]) -> (Self::F, Self::F);
    fn i_splat(x: i32) -> Self::I;
    fn i_to_f(v: Self::I) -> Self::F;
    /// The first 4W bytes.
    fn b_load(x: &[u8]) -> Self::B;
    fn b_or(a: Self::B, b: Self::B) -> Self::B;
    /// `v >> n & mask` of each byte; `mask` has none of the `n` high bits.
    fn b_shr(v: Self::B, n: u32, mask: u8) -> Self::B;
    /// `v << n & mask` of each byte; `mask` has none of the `n` low bits.
    fn b_shl(v: Self::B, n: u32, mask: u8) -> Self::B;
    /// `table[v]` for bytes below 16.
    fn b_lookup(table: &[u8; 16], v: Self::B) -> Self::B;
    /// Adds the dot product of each row's four bytes, which are from 0 to 127, with those of x, from -127 to 127.
    fn dot(acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I;
    /// The same for rows of bytes from 0 to 255, except that `WIDE_BIAS` is taken from each.
    fn dot_wide(acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I;
}

/// Work that is compiled once per instruction set.
pub trait Job {
    type Out;
    /// Must be `#[inline(always)]`.
    fn run<L: Ints>(self) -> Self::Out;
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
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Short,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Level 0 is what every machine of the target has, 1 is AVX2 with FMA and F16C, 2 adds VNNI (dot products of bytes)
    /// on registers of 256 bits, 3 is AVX-512 with VNNI. What this machine lacks is left out, so the highest level is
    /// always its widest.
    pub fn at_most(level: u8) -> Self {
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
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = level; // the other targets choose when they are compiled
            Self(Kind::Plain)
        }
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
            Kind::AvxVnni => unsafe { x86::avx_vnni(job) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Short => unsafe { x86::avx512_short(job) },
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
    fn run<L: Ints>(self) -> R {
        (self.0)()
    }
}
