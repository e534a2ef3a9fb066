//! The operations of code over sixteen values: f32 arithmetic, and int8 dot products.

/// 16 values in memory.
pub(crate) type Chunk = [f32; 16];

/// Arithmetic on 16 values at once.
pub(crate) trait Lanes: Copy + 'static {
    type V: Copy;
    /// Whether 16 accumulators fit in registers (otherwise 6 do).
    const ROOMY: bool;
    /// Rows whose sums of 16 values fit in registers beside what they are made of: 2 or 4.
    const ROWS: usize = 4;
    fn zero() -> Self::V;
    fn load(x: &Chunk) -> Self::V;
    fn store(v: Self::V) -> Chunk;
    fn splat(x: f32) -> Self::V;
    /// Bytes as unsigned integers.
    fn unsigned(x: &[u8; 16]) -> Self::V;
    /// Bytes as signed integers.
    fn signed(x: &[u8; 16]) -> Self::V;
    /// The low and the high nibbles of bytes.
    fn nibbles(x: &[u8; 16]) -> (Self::V, Self::V);
    /// `a * b + c`.
    fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn fma1(a: f32, b: f32, c: f32) -> f32;

    /// The sum of the lanes, by halving.
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

/// Dot products of bytes, for `W` interleaved rows of a matrix: each 32-bit lane belongs to one row.
pub(crate) trait Ints: Lanes {
    /// Rows per register: 4, 8 or 16.
    const W: usize;
    /// Tokens whose sums, of W rows each, fit in registers: 4 or 8.
    const TOKENS: usize = 4;
    /// Whether every two chunks have a sum of their own, so that it waits for few others: compilers put all steps of a sum one
    /// after the other, whatever the order here.
    const PAIRS: bool = false;
    /// `dot_wide` leaves out this many times the sum of x.
    const WIDE_BIAS: i32;
    /// And this many times the sum of the magnitudes of negative x.
    const WIDE_NEGATIVE: i32 = 0;
    /// W values.
    type F: Copy;
    /// W 32-bit integers.
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
    /// 16 f16, little-endian.
    fn halves(x: &[u8; 32]) -> Self::V;
    /// The first W bytes as unsigned integers.
    fn f_unsigned(x: &[u8]) -> Self::F;
    /// The first W bytes as signed integers.
    fn f_signed(x: &[u8]) -> Self::F;
    /// The low and the high nibbles of the first W bytes.
    fn f_nibbles(x: &[u8]) -> (Self::F, Self::F);
    fn i_splat(x: i32) -> Self::I;
    fn i_to_f(v: Self::I) -> Self::F;
    /// `a + b`, where there are pairs.
    #[inline(always)]
    fn i_add(_: Self::I, _: Self::I) -> Self::I {
        unreachable!("only with PAIRS")
    }
    /// The first 4W bytes.
    fn b_load(x: &[u8]) -> Self::B;
    fn b_or(a: Self::B, b: Self::B) -> Self::B;
    /// `v >> n & mask` of each byte; `mask` has none of the `n` high bits.
    fn b_shr(v: Self::B, n: u32, mask: u8) -> Self::B;
    /// `v << n & mask` of each byte; `mask` has none of the `n` low bits.
    fn b_shl(v: Self::B, n: u32, mask: u8) -> Self::B;
    /// `table[v]` for bytes below 16.
    fn b_lookup(table: &[u8; 16], v: Self::B) -> Self::B;
    /// Adds the dot product of each row's four bytes, from 0 to 127, with those of x, from -127 to 127.
    fn dot(acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I;
    /// The same for bytes of rows from 0 to 255, except for what `WIDE_BIAS` and `WIDE_NEGATIVE` say.
    fn dot_wide(acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I;
    /// Asks for the cache line at an address that may be anywhere, where the machine can be asked.
    #[inline(always)]
    fn prefetch(_at: *const u8) {}
}

/// Work that is compiled once per instruction set.
pub(crate) trait Job {
    type Out;
    /// Must be `#[inline(always)]`.
    fn run<L: Ints>(self) -> Self::Out;
}
