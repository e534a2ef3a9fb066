//! Blocks and their parts, with lengths that the compiler knows.

/// An f16, given by its bits. Branch-free, so that loops over it become vector code on every target.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    // 2^(127 - 15): what the exponent lacks once the bits stand where f32 has them. The product is exact, and it also
    // gives subnormal numbers their exponent.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff) << 13;
    let finite = (f32::from_bits(rest) * REBIAS).to_bits();
    let special = rest | 0x7f80_0000;
    f32::from_bits(sign | if rest >= 0x7c00 << 13 { special } else { finite })
}

/// Calls `f` for each block of `B` bytes and its `N` values: lengths known to the compiler make tight loops.
#[inline(always)]
pub(super) fn each_block<const B: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    f: impl Fn(&[u8; B], &mut [f32; N]),
) {
    for (block, values) in bytes.as_chunks::<B>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        f(block, values);
    }
}

/// The `N` bytes of a block from `at`.
#[inline(always)]
pub(super) fn part<const N: usize>(block: &[u8], at: usize) -> &[u8; N] {
    block[at..].first_chunk().expect("the part lies in the block")
}

/// The f16 at `at` of a block.
#[inline(always)]
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes(*part(block, at)))
}
