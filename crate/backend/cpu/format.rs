//! Packed matrices: 16 rows are interleaved, so that a register holds the same columns of several rows.
//!
//! 16 rows make a panel. For every 32 columns a panel has a block of integers: chunk j is 64 bytes, of which row r has
//! bytes 4r to 4r + 3 for columns 4j to 4j + 3. Narrower integers share bytes with the next chunks: two nibbles, four
//! bit pairs or eight bits per byte.
//!
//! The scales of 32 or 256 columns, depending on the type, are a header: 16 f16 `d`, 16 f16 `m` if there are minima,
//! and for 256 columns the small scales and minima of each group, a byte per row. As many headers as fill whole cache
//! lines precede their blocks. So a panel is read from its first byte to its last: with headers stored apart from
//! blocks, half of the memory bandwidth was lost.
//!
//! Nothing is rounded: only the order of the values changes.

use super::arena::LINE;
use super::lanes::Ints;
use crate::dtype::DType;
use crate::quant::{self, IQ4_LEVELS};

/// Rows of a panel.
pub(super) const PANEL: usize = 16;
/// Columns of a block.
pub(super) const COLS: usize = quant::Q8_COLS;
/// Chunks of a block.
pub(super) const CHUNKS: usize = 8;
/// Bytes of an unpacked chunk.
const CHUNK: usize = 4 * PANEL;

/// How the integers of a block are packed.
pub(super) trait Bits {
    /// Bytes of a block.
    const BYTES: usize;
    /// Whether integers exceed 127.
    const WIDE: bool = false;

    /// Chunk `j` of `L::W` rows, starting at its byte `at`.
    fn chunk<L: Ints>(block: &[u8], j: usize, at: usize) -> L::B;

    /// Writes four integers of row `r` into chunk `j` of a block of zeros.
    fn put(block: &mut [u8], j: usize, r: usize, q: u32);

    /// The four integers of row `r` in chunk `j`, the first in the lowest byte.
    fn get(block: &[u8], j: usize, r: usize) -> u32;
}

pub(super) struct U8;
pub(super) struct U4;
pub(super) struct U2;
/// Low bits, followed by a plane of the high bits.
pub(super) struct U5;
pub(super) struct U3;
pub(super) struct U6;
/// Nibbles that index levels, which are stored plus 128.
pub(super) struct Levels;

impl Bits for U8 {
    const BYTES: usize = CHUNKS * CHUNK;
    const WIDE: bool = true;

    #[inline(always)]
    fn chunk<L: Ints>(block: &[u8], j: usize, at: usize) -> L::B {
        L::b_load(&block[j * CHUNK + at..])
    }

    #[inline(always)]
    fn put(block: &mut [u8], j: usize, r: usize, q: u32) {
        *word_mut(block, j * CHUNK + 4 * r) = q.to_le_bytes();
    }

    #[inline(always)]
    fn get(block: &[u8], j: usize, r: usize) -> u32 {
        word(block, j * CHUNK + 4 * r)
    }
}

/// The byte offset and the shift of chunk `j` in a plane with `PER_BYTE` integers per byte.
#[inline(always)]
const fn place<const PER_BYTE: usize>(j: usize) -> (usize, u32) {
    (j / PER_BYTE * CHUNK, (j % PER_BYTE * (8 / PER_BYTE)) as u32)
}

/// Bits of chunk `j` from a plane, moved to bit `to`.
#[inline(always)]
fn plane<L: Ints, const PER_BYTE: usize>(plane: &[u8], j: usize, at: usize, to: u32) -> L::B {
    let (base, shift) = place::<PER_BYTE>(j);
    let v = L::b_load(&plane[base + at..]);
    let mask = (((1u32 << (8 / PER_BYTE)) - 1) << to) as u8;
    if shift >= to { L::b_shr(v, shift - to, mask) } else { L::b_shl(v, to - shift, mask) }
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the chunk lies in the block"))
}

#[inline(always)]
fn word_mut(bytes: &mut [u8], at: usize) -> &mut [u8; 4] {
    bytes[at..].first_chunk_mut().expect("the chunk lies in the block")
}

/// The low `bits` of four bytes.
#[inline(always)]
const fn low(bits: usize) -> u32 {
    ((1 << bits) - 1) * 0x0101_0101
}

#[inline(always)]
fn plane_put<const PER_BYTE: usize>(plane: &mut [u8], j: usize, r: usize, q: u32) {
    let (base, shift) = place::<PER_BYTE>(j);
    let place = word_mut(plane, base + 4 * r);
    *place = (u32::from_le_bytes(*place) | q << shift).to_le_bytes();
}

#[inline(always)]
fn plane_get<const PER_BYTE: usize>(plane: &[u8], j: usize, r: usize) -> u32 {
    let (base, shift) = place::<PER_BYTE>(j);
    word(plane, base + 4 * r) >> shift & low(8 / PER_BYTE)
}

/// Integers in one plane, of `8 / $per` bits.
macro_rules! one_plane {
    ($name:ident, $per:literal) => {
        impl Bits for $name {
            const BYTES: usize = CHUNKS * CHUNK / $per;

            #[inline(always)]
            fn chunk<L: Ints>(block: &[u8], j: usize, at: usize) -> L::B {
                plane::<L, $per>(block, j, at, 0)
            }

            #[inline(always)]
            fn put(block: &mut [u8], j: usize, r: usize, q: u32) {
                plane_put::<$per>(block, j, r, q);
            }

            #[inline(always)]
            fn get(block: &[u8], j: usize, r: usize) -> u32 {
                plane_get::<$per>(block, j, r)
            }
        }
    };
}

/// Integers in two planes: the low bits as `$low`, the others in a plane of `8 / $per` bits.
macro_rules! two_planes {
    ($name:ident, $low:ident, $low_bits:literal, $per:literal) => {
        impl Bits for $name {
            const BYTES: usize = $low::BYTES + CHUNKS * CHUNK / $per;

            #[inline(always)]
            fn chunk<L: Ints>(block: &[u8], j: usize, at: usize) -> L::B {
                let high = plane::<L, $per>(&block[$low::BYTES..], j, at, $low_bits);
                L::b_or($low::chunk::<L>(block, j, at), high)
            }

            #[inline(always)]
            fn put(block: &mut [u8], j: usize, r: usize, q: u32) {
                $low::put(block, j, r, q & low($low_bits));
                plane_put::<$per>(&mut block[$low::BYTES..], j, r, q >> $low_bits & low(8 / $per));
            }

            #[inline(always)]
            fn get(block: &[u8], j: usize, r: usize) -> u32 {
                $low::get(block, j, r) | plane_get::<$per>(&block[$low::BYTES..], j, r) << $low_bits
            }
        }
    };
}

one_plane!(U4, 2);
one_plane!(U2, 4);
two_planes!(U5, U4, 4, 8);
two_planes!(U6, U4, 4, 4);
two_planes!(U3, U2, 2, 8);

/// The levels of the IQ4 types as bytes.
const LEVELS: [u8; 16] = {
    let mut levels = [0; 16];
    let mut i = 0;
    while i < 16 {
        levels[i] = (IQ4_LEVELS[i] as i32 + 128) as u8;
        i += 1;
    }
    levels
};

impl Bits for Levels {
    const BYTES: usize = U4::BYTES;
    const WIDE: bool = true;

    #[inline(always)]
    fn chunk<L: Ints>(block: &[u8], j: usize, at: usize) -> L::B {
        L::b_lookup(&LEVELS, U4::chunk::<L>(block, j, at))
    }

    #[inline(always)]
    fn put(block: &mut [u8], j: usize, r: usize, q: u32) {
        U4::put(block, j, r, q);
    }

    #[inline(always)]
    fn get(block: &[u8], j: usize, r: usize) -> u32 {
        u32::from_le_bytes(U4::get(block, j, r).to_le_bytes().map(|q| LEVELS[usize::from(q)]))
    }
}

/// A packed type.
pub(super) trait Format {
    type Bits: Bits;
    const DTYPE: DType;
    /// Columns of a header: 32 or 256.
    const SPAN: usize;
    /// Columns with the same scale: 16 or 32.
    const GROUP: usize = COLS;
    /// Whether the header has minima.
    const MIN: bool = false;
    /// Whether small scales are signed.
    const SIGNED: bool = false;
    /// Subtracted from each integer.
    const OFFSET: i32 = 0;

    /// Groups of a header with a small scale each.
    const GROUPS: usize = if Self::SPAN == COLS { 0 } else { Self::SPAN / Self::GROUP };
    /// Whether the small scale and minimum of a group share a byte, with the minimum in the high half.
    const SHARED: bool = Self::MIN && Self::GROUP == 16;
    /// The offset of the small scales.
    const SMALL: usize = 2 * PANEL * (1 + Self::MIN as usize);
    /// Bytes of the blocks of a header.
    const BLOCKS: usize = Self::SPAN / COLS * Self::Bits::BYTES;
    /// Headers per cluster.
    const TOGETHER: usize = if Self::HEADER < LINE { LINE / Self::HEADER } else { 1 };
    /// Bytes of these headers.
    const HEADERS: usize = (Self::TOGETHER * Self::HEADER).next_multiple_of(LINE);
    /// Bytes of these headers and their blocks.
    const CLUSTER: usize = Self::HEADERS + Self::TOGETHER * Self::BLOCKS;
    /// Bytes of a header.
    const HEADER: usize = Self::SMALL + PANEL * Self::GROUPS * (1 + (Self::MIN && !Self::SHARED) as usize);
}

macro_rules! packed_format {
    ($name:ident, $bits:ident, $($item:tt)*) => {
        #[allow(non_camel_case_types, reason = "the format's name")]
        pub(super) struct $name;
        impl Format for $name {
            type Bits = $bits;
            const DTYPE: DType = DType::$name;
            $($item)*
        }
    };
}

packed_format! { Q4_0, U4, const SPAN: usize = 32; const OFFSET: i32 = 8; }
packed_format! { Q4_1, U4, const SPAN: usize = 32; const MIN: bool = true; }
packed_format! { Q5_0, U5, const SPAN: usize = 32; const OFFSET: i32 = 16; }
packed_format! { Q5_1, U5, const SPAN: usize = 32; const MIN: bool = true; }
packed_format! { Q8_0, U8, const SPAN: usize = 32; const OFFSET: i32 = 128; }
packed_format! { IQ4_NL, Levels, const SPAN: usize = 32; const OFFSET: i32 = 128; }
packed_format! { Q2_K, U2, const SPAN: usize = 256; const GROUP: usize = 16; const MIN: bool = true; }
packed_format! { Q3_K, U3, const SPAN: usize = 256; const GROUP: usize = 16; const SIGNED: bool = true; const OFFSET: i32 = 4; }
packed_format! { Q4_K, U4, const SPAN: usize = 256; const MIN: bool = true; }
packed_format! { Q5_K, U5, const SPAN: usize = 256; const MIN: bool = true; }
packed_format! { Q6_K, U6, const SPAN: usize = 256; const GROUP: usize = 16; const SIGNED: bool = true; const OFFSET: i32 = 32; }
packed_format! { IQ4_XS, Levels, const SPAN: usize = 256; const SIGNED: bool = true; const OFFSET: i32 = 128; }

/// Evaluates `$body` with `$f` being the packed format of a type; `None` if it has none.
macro_rules! with_format {
    (@ $dtype:expr, $f:ident => $body:expr, $($name:ident)*) => {
        match $dtype {
            $(crate::dtype::DType::$name => {
                type $f = crate::backend::cpu::format::$name;
                Some($body)
            })*
            _ => None,
        }
    };
    ($dtype:expr, $f:ident => $body:expr) => {
        with_format!(@ $dtype, $f => $body, Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS)
    };
}
pub(super) use with_format;
