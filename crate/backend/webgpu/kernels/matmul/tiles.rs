//! How many rows of x a tile of a product has, by the length of the step.

use super::face::MatMul;
use crate::backend::webgpu::dispatch::When;
use crate::backend::webgpu::tuning::Tuning;

/// Rows of x of the tiles, the smallest first.
pub(super) const TILES: [usize; 3] = [16, 32, 64];

/// The tiles for steps of `least` rows or more, each with the steps that it is for. A large tile reads and unpacks weights
/// for more rows of x; but a tile takes as long for one row as for all of its own, and a GPU that few workgroups leave idle
/// is faster with many small ones, of which each has less to do.
pub(super) fn dense_tiles(p: &MatMul, int8: bool, least: usize, tuning: Tuning) -> Vec<(usize, When)> {
    let filled = |tile: usize| {
        // The rows of the matrices that a workgroup takes: those of `gemm_q8_small` are fewer.
        let rows = if int8 { tile } else { 64 };
        let (_, groups) = p.frame(rows / p.halves());
        tile * (tuning.fill.div_ceil(groups.max(1)) - 1) + 1
    };
    let [_, medium, large] = TILES;
    let from_large = filled(large).max(medium + 1);
    let from_medium = filled(medium).clamp(least, from_large);
    let steps = [
        When::rows(least, from_medium - 1),
        When::rows(from_medium, from_large - 1),
        When::rows(from_large, usize::MAX),
    ];
    TILES.into_iter().zip(steps).filter(|(_, when)| !when.is_never()).collect()
}
