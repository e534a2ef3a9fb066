//! The layout of packed weights on the GPU: tiles whose fields are aligned.
//!
//! Blocks of most types are not a multiple of a vector, or of a word. For those, the fields of the blocks of 16 rows (a
//! tile) are grouped, with fields of whole vectors first: a tile keeps its size and its start, and its fields are
//! aligned.
//!
//! Tests: `tests/suite/kernels.rs`, `tests/suite/webgpu.rs`.

use std::fmt::Write;

use crate::backend::webgpu::shader::files::file;
use crate::backend::webgpu::shader::text::Const::U;
use crate::backend::webgpu::shader::text::constant;
use crate::dtype::DType;

/// Rows of a tile. Blocks of an odd number of bytes need 16 of them for whole vectors.
pub(crate) const TILE: usize = 16;

/// The fields of a block as offset and length, in the order of their planes. `None`: rows stay as they are.
pub(crate) fn fields(dtype: DType) -> Option<&'static [(usize, usize)]> {
    Some(match dtype {
        DType::Q4_0 | DType::IQ4_NL => &[(2, 16), (0, 2)],
        DType::Q4_1 => &[(4, 16), (0, 4)],
        DType::Q5_0 => &[(6, 16), (2, 4), (0, 2)],
        DType::Q5_1 => &[(8, 16), (0, 8)],
        DType::Q8_0 => &[(2, 32), (0, 2)],
        DType::Q2_K => &[(0, 80), (80, 4)],
        DType::Q3_K => &[(0, 96), (96, 12), (108, 2)],
        DType::Q6_K => &[(0, 208), (208, 2)],
        DType::IQ4_XS => &[(8, 128), (0, 8)],
        DType::MXFP4 => &[(1, 16), (0, 1)],
        _ => return None,
    })
}

/// Workgroups in the first dimension of a grid.
pub(crate) const GRID_X: usize = 32768;

/// The shader for a type and a row length; its `source` maps a byte of a tile to where it comes from.
pub(crate) fn source(dtype: DType, cols: usize, tile: usize, fields: &[(usize, usize)]) -> String {
    let blocks = TILE * cols / dtype.block_elems();
    let mut text = "fn source(i: u32) -> u32 {\n".to_string();
    let mut start = 0;
    for (offset, len) in fields {
        let end = start + blocks * len;
        let block = dtype.block_bytes();
        writeln!(
            text,
            "    if (i < {end}u) {{ return (i - {start}u) / {len}u * {block}u + {offset}u + (i - {start}u) % {len}u; }}"
        )
        .expect("writing to a string does not fail");
        start = end;
    }
    text.push_str("    return i;\n}\n");
    let consts = [("TILE_BYTES", U(tile)), ("GRID_X", U(GRID_X))];
    let mut all = String::new();
    consts.into_iter().for_each(|(key, value)| constant(&mut all, key, value));
    all + &text + file("repack")
}

/// The name and the source of each variant.
pub(crate) fn variants() -> Vec<(String, String)> {
    let repacked = DType::ALL.iter().filter_map(|d| Some((*d, fields(*d)?)));
    let text = |(dtype, fields): (DType, &[(usize, usize)])| {
        let tile = TILE * 3 * dtype.block_bytes();
        (format!("repack {dtype}"), source(dtype, 3 * dtype.block_elems(), tile, fields))
    };
    repacked.map(text).collect()
}
