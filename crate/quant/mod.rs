//! Block formats: packed bytes to f32 values, one block at a time.

use crate::dtype::DType;
use crate::error::Result;

pub fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<()> {
    match dtype {
        DType::F32 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        DType::BF16 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = f32::from_bits((u16::from_le_bytes([b[0], b[1]]) as u32) << 16);
            }
        }
        _ => crate::bail!(UnsupportedType, "{dtype}"),
    }
    Ok(())
}

pub fn decodable(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16)
}
