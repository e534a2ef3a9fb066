//! The buffers of tables, which are filled once the weights are complete.

use super::weights::Weights;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::kernels::table::Table;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Rope, WeightId};

pub(crate) struct Tables(Vec<(Table, wgpu::Buffer)>);

impl Tables {
    /// One buffer for each table of the graph; nodes with the same table share it.
    pub(crate) fn new(gpu: &Gpu, g: &Graph) -> Result<Self> {
        let mut all: Vec<(Table, wgpu::Buffer)> = Vec::new();
        for table in (0..g.nodes.len()).flat_map(|i| Table::of(g, i)) {
            if !all.iter().any(|(t, _)| *t == table) {
                let buffer = gpu.storage("table", table.bytes(g))?;
                all.push((table, buffer));
            }
        }
        Ok(Self(all))
    }

    pub(crate) fn get(&self, table: &Table) -> &wgpu::Buffer {
        let found = self.0.iter().find(|(t, _)| t == table);
        &found.expect("each table of the plan was made").1
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &wgpu::Buffer> {
        self.0.iter().map(|(_, buffer)| buffer)
    }

    /// Fills the tables that are computed on the host from weights.
    pub(crate) fn fill(&self, gpu: &Gpu, g: &Graph, weights: &Weights) {
        for (table, buffer) in &self.0 {
            gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&words(table, g, weights)));
        }
    }
}

/// The contents of a table.
fn words(table: &Table, g: &Graph, weights: &Weights) -> Vec<u32> {
    let values = |w: WeightId| values(g.weight(w).dtype, weights.host(w));
    match table {
        Table::Turns(rope) => turns(rope, rope.freqs.and_then(values).as_deref()).concat(),
        Table::Values(all) => {
            let padded = |w: &WeightId| {
                let mut v: Vec<u32> = values(*w).unwrap_or_default().into_iter().map(f32::to_bits).collect();
                v.resize(v.len().next_multiple_of(4), 0);
                v
            };
            all.iter().flat_map(padded).collect()
        }
    }
}

/// Angle i of position 1 for each pair, as a 64-bit fraction of a turn: low word, high word.
///
/// Whole turns do not matter, so the product with a position may wrap around: its low bits are exact at any position.
fn turns(r: &Rope, freqs: Option<&[f32]>) -> Vec<[u32; 2]> {
    let turn = |i: usize| {
        let angle = f64::from(r.scale) * f64::from(r.base).powf(r.power(i));
        let angle = angle / freqs.map_or(1.0, |f| f64::from(f[i]));
        let turns = (angle / std::f64::consts::TAU).rem_euclid(1.0);
        let fixed = (turns * 2f64.powi(64)) as u64;
        [fixed as u32, (fixed >> 32) as u32]
    };
    (0..r.n_rot / 2).map(turn).collect()
}

/// The values of a weight that is not quantised; `None` for quantised types.
fn values(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    let f32s = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    Some(match dtype {
        DType::F32 => bytes.chunks_exact(4).map(f32s).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_bits(pair(b)).to_f32()).collect(),
        DType::BF16 => bytes.chunks_exact(2).map(|b| half::bf16::from_bits(pair(b)).to_f32()).collect(),
        _ => return None,
    })
}
