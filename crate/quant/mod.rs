//! Block formats: packed bytes to f32 values, one block at a time, and the simple ones back.
//!
//! The sums and products are associated as in the reference, so that values agree to the last bit.

mod blocks;
mod encode;
mod float;
mod fp4;
mod grids;
mod iq;
mod iq4;
mod kquant;
mod legacy;
mod split;
mod ternary;

use std::ops::Range;

pub use blocks::f16_to_f32;
pub use encode::{encodable, encode};
pub use iq::grid;
pub use iq4::LEVELS as IQ4_LEVELS;
pub use split::{Q8_COLS, Split, q8, q8_rest, split, splits};

use crate::bail;
use crate::dtype::DType;
use crate::error::Result;

/// How the blocks of one type are read.
#[derive(Clone, Copy, Debug)]
pub struct BlockFormat {
    /// The type that the rest describes.
    pub dtype: DType,
    /// Any number of whole blocks and as many values as they hold. Use [`decode`], or check the lengths first.
    decode: fn(&[u8], &mut [f32]),
}

/// Every type that can be decoded: all but integers and f64, of which no weight is made.
pub const FORMATS: &[BlockFormat] = {
    const fn f(dtype: DType, decode: fn(&[u8], &mut [f32])) -> BlockFormat {
        BlockFormat { dtype, decode }
    }
    &[
        f(DType::F32, float::f32),
        f(DType::F16, float::f16),
        f(DType::BF16, float::bf16),
        f(DType::Q4_0, legacy::q4_0),
        f(DType::Q4_1, legacy::q4_1),
        f(DType::Q5_0, legacy::q5_0),
        f(DType::Q5_1, legacy::q5_1),
        f(DType::Q8_0, legacy::q8_0),
        f(DType::Q1_0, legacy::q1_0),
        f(DType::Q2_0, legacy::q2_0),
        f(DType::Q2_K, kquant::q2_k),
        f(DType::Q3_K, kquant::q3_k),
        f(DType::Q4_K, kquant::q4_k),
        f(DType::Q5_K, kquant::q5_k),
        f(DType::Q6_K, kquant::q6_k),
        f(DType::IQ1_S, iq::iq1_s),
        f(DType::IQ1_M, iq::iq1_m),
        f(DType::IQ2_XXS, iq::iq2_xxs),
        f(DType::IQ2_XS, iq::iq2_xs),
        f(DType::IQ2_S, iq::iq2_s),
        f(DType::IQ3_XXS, iq::iq3_xxs),
        f(DType::IQ3_S, iq::iq3_s),
        f(DType::IQ4_NL, iq4::iq4_nl),
        f(DType::IQ4_XS, iq4::iq4_xs),
        f(DType::TQ1_0, ternary::tq1_0),
        f(DType::TQ2_0, ternary::tq2_0),
        f(DType::MXFP4, fp4::mxfp4),
        f(DType::NVFP4, fp4::nvfp4),
    ]
};

impl BlockFormat {
    /// The format of `dtype`, to look up once and use for many rows.
    pub fn of(dtype: DType) -> Option<&'static BlockFormat> {
        FORMATS.iter().find(|f| f.dtype == dtype)
    }

    /// Decodes whole blocks.
    ///
    /// # Panics
    /// Where `bytes` is not a multiple of the block, or `out` is not exactly as long as they are.
    pub fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        let (b, n) = (self.dtype.block_bytes(), self.dtype.block_elems());
        let blocks = bytes.len() / b;
        assert!(
            blocks * b == bytes.len() && blocks * n == out.len(),
            "{} bytes of {} do not hold exactly {} values",
            bytes.len(),
            self.dtype,
            out.len()
        );
        (self.decode)(bytes, out);
    }
}

/// Whether [`decode`] knows the type.
pub fn decodable(dtype: DType) -> bool {
    BlockFormat::of(dtype).is_some()
}

/// Decodes whole blocks, a row or several: as many values as `out` takes. The error is a type that cannot be decoded.
///
/// # Panics
/// As [`BlockFormat::decode`].
pub fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    match BlockFormat::of(dtype) {
        Some(format) => format.decode(bytes, out),
        None => bail!(UnsupportedType, "values of type {dtype} cannot be decoded"),
    }
    Ok(())
}

/// Decodes some rows of a matrix of rows of `cols` values: `bytes` [rows, row_bytes] to `out` [rows.len(), cols].
///
/// # Panics
/// As [`BlockFormat::decode`]; and where `cols` is not a multiple of the block or the matrix has no such rows.
pub fn decode_rows(dtype: DType, bytes: &[u8], cols: usize, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
    let row = dtype
        .row_bytes(cols)
        .unwrap_or_else(|| panic!("{cols} values are not a multiple of the block size of {dtype}"));
    decode(dtype, &bytes[rows.start * row..rows.end * row], out)
}
