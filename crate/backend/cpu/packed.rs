//! A matrix in panels (see `format`), packed in place as its bytes arrive.

use super::format::{Bits, COLS, Format, PANEL, with_format};
use super::pool::Pool;
use crate::backend::Activations;
use crate::dtype::DType;
use crate::graph::{Graph, Op};
use crate::quant::{self, Split, f16_to_f32};

/// The layout of `parts` consecutive matrices [rows, cols] (the experts of a layer, or one), each padded to whole
/// panels.
pub(super) struct Packed {
    pub dtype: DType,
    pub rows: usize,
    parts: usize,
    shape: Shape,
    /// Raw bytes that each panel still lacks. Those that come in pieces are kept at the start of its place until all are there.
    missing: Vec<usize>,
}

/// Sizes in bytes.
#[derive(Clone, Copy)]
struct Shape {
    /// Bytes of a panel.
    panel: usize,
    /// Bytes of a row in the file's layout.
    raw_row: usize,
}

impl Shape {
    fn new(dtype: DType, cols: usize) -> Option<Self> {
        let raw_row = dtype.row_bytes(cols)?;
        with_format!(dtype, F => {
            let spans = cols / F::SPAN;
            Self { panel: spans.div_ceil(F::TOGETHER) * F::HEADERS + spans * F::BLOCKS, raw_row }
        })
    }
}

impl Packed {
    /// `None` if the type has no packed format.
    pub(super) fn new(dtype: DType, parts: usize, rows: usize, cols: usize) -> Option<Self> {
        let shape = Shape::new(dtype, cols)?;
        let panels = rows.div_ceil(PANEL);
        let missing = (0..parts * panels).map(|p| PANEL.min(rows - p % panels * PANEL) * shape.raw_row).collect();
        Some(Self { dtype, rows, parts, shape, missing })
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.parts * self.rows.div_ceil(PANEL) * self.shape.panel
    }

    /// Takes bytes in the file's layout, from `offset` on, and packs the panels that are now complete. Returns `false`
    /// if some of them came before.
    ///
    /// # Panics
    /// If they exceed the matrices.
    #[must_use]
    pub(super) fn write(&mut self, pool: &Pool, memory: &mut [u8], mut offset: usize, mut bytes: &[u8]) -> bool {
        let Shape { panel, raw_row, .. } = self.shape;
        let per_part = self.rows.div_ceil(PANEL);
        // Panels that are complete, and their raw bytes where these are not in their place.
        let mut whole = Vec::new();
        while !bytes.is_empty() {
            let row = offset / raw_row;
            let (part, row) = (row / self.rows, row % self.rows);
            let p = part * per_part + row / PANEL;
            let at = row % PANEL * raw_row + offset % raw_row;
            let len = self.raw_rows(p) * raw_row;
            let n = bytes.len().min(len - at);
            let Some(left) = self.missing[p].checked_sub(n) else { return false };
            self.missing[p] = left;
            // In order, as offsets are.
            if n == len {
                whole.push((p, Some(&bytes[..n])));
            } else {
                memory[p * panel + at..][..n].copy_from_slice(&bytes[..n]);
                if left == 0 {
                    whole.push((p, None));
                }
            }
            (offset, bytes) = (offset + n, &bytes[n..]);
        }
        let (Some(&(first, _)), Some(&(last, _))) = (whole.first(), whole.last()) else { return true };
        let (this, whole) = (&*self, &whole);
        pool.tiles(&mut memory[first * panel..(last + 1) * panel], panel, (1, panel), |mut tile, _| {
            let p = first + tile.rows.start;
            // The panels between are complete already, or still lack bytes.
            if let Ok(i) = whole.binary_search_by_key(&p, |w| w.0) {
                let panel = tile.row(p - first);
                match whole[i].1 {
                    Some(raw) => pack(this.dtype, raw_row, raw, panel),
                    None => {
                        let raw = panel[..this.raw_rows(p) * raw_row].to_vec();
                        pack(this.dtype, raw_row, &raw, panel);
                    }
                }
            }
        });
        true
    }

    /// Rows of panel `p` that are not padding.
    fn raw_rows(&self, p: usize) -> usize {
        PANEL.min(self.rows - p % self.rows.div_ceil(PANEL) * PANEL)
    }

    /// Panel `p` of matrix `part`.
    #[inline(always)]
    pub(super) fn panel<'a>(&self, memory: &'a [u8], part: usize, p: usize) -> &'a [u8] {
        let panel = self.shape.panel;
        &memory[(part * self.rows.div_ceil(PANEL) + p) * panel..][..panel]
    }

    /// The values of row `row` of the first matrix.
    pub(super) fn decode_row(&self, memory: &[u8], row: usize, y: &mut [f32]) {
        let panel = self.panel(memory, 0, row / PANEL);
        with_format!(self.dtype, F => decode::<F>(panel, row % PANEL, y));
    }
}

/// How many stacked matrices (experts) each repackable weight holds; `None` for others. A weight is repackable if it is
/// only multiplied with or looked up by row.
pub(super) fn parts(g: &Graph, activations: Activations) -> Vec<Option<usize>> {
    let mut parts = vec![None; g.weights.len()];
    if activations == Activations::F32 {
        return parts;
    }
    for n in &g.nodes {
        match n.op {
            Op::MatMul { w, .. } => parts[w.index()] = Some(1),
            Op::MoeMatMul { w, n_expert, .. } => parts[w.index()] = Some(n_expert),
            _ => {}
        }
    }
    for n in g.nodes.iter().filter(|n| !matches!(n.op, Op::MatMul { .. } | Op::MoeMatMul { .. } | Op::Embed { .. })) {
        n.op.weights().for_each(|w| parts[w.index()] = None);
    }
    parts
}

/// Packs the rows of a panel. Every byte of it is written.
fn pack(dtype: DType, raw_row: usize, raw: &[u8], panel: &mut [u8]) {
    panel.fill(0);
    with_format!(dtype, F => {
        for (r, raw) in raw.chunks_exact(raw_row).enumerate() {
            pack_row::<F>(raw, r, panel);
        }
    });
}

/// The offsets of header `i` of a panel and of its blocks.
fn places<F: Format>(i: usize) -> (usize, usize) {
    let (cluster, i) = (i / F::TOGETHER * F::CLUSTER, i % F::TOGETHER);
    (cluster + i * F::HEADER, cluster + F::HEADERS + i * F::BLOCKS)
}

fn pack_row<F: Format>(raw: &[u8], r: usize, panel: &mut [u8]) {
    let mut s = Split::default();
    for (i, raw) in raw.chunks_exact(F::DTYPE.block_bytes()).enumerate() {
        quant::split(F::DTYPE, raw, &mut s);
        let (header, blocks) = places::<F>(i);
        let header = &mut panel[header..][..F::HEADER];
        header[2 * r..][..2].copy_from_slice(&s.d);
        if F::MIN {
            header[2 * (PANEL + r)..][..2].copy_from_slice(&s.m);
        }
        for g in 0..F::GROUPS {
            let at = F::SMALL + g * PANEL + r;
            header[at] = if F::SHARED { s.scales[g] as u8 | s.mins[g] << 4 } else { s.scales[g] as u8 };
            if F::MIN && !F::SHARED {
                header[at + F::GROUPS * PANEL] = s.mins[g];
            }
        }
        let blocks = panel[blocks..][..F::BLOCKS].chunks_exact_mut(F::Bits::BYTES);
        for (block, q) in blocks.zip(s.q.as_chunks::<COLS>().0) {
            for (j, q) in q.as_chunks().0.iter().enumerate() {
                F::Bits::put(block, j, r, u32::from_le_bytes(*q));
            }
        }
    }
}

/// Row `r` of a panel.
fn decode<F: Format>(panel: &[u8], r: usize, y: &mut [f32]) {
    let half = |b: &[u8], at: usize| f16_to_f32(u16::from_le_bytes([b[at], b[at + 1]]));
    for (i, y) in y.chunks_exact_mut(F::SPAN).enumerate() {
        let (header, blocks) = places::<F>(i);
        let (header, blocks) = (&panel[header..], &panel[blocks..]);
        let d = half(header, 2 * r);
        let m = if F::MIN { half(header, 2 * (PANEL + r)) } else { 0.0 };
        for (g, y) in y.chunks_exact_mut(F::GROUP).enumerate() {
            let (scale, min) = if F::GROUPS == 0 {
                (d, m)
            } else {
                let at = F::SMALL + g * PANEL + r;
                let s = header[at];
                let (scale, min) = match (F::SHARED, F::MIN) {
                    (true, _) => (s & 15, s >> 4),
                    (false, true) => (s, header[at + F::GROUPS * PANEL]),
                    (false, false) => (s, 0),
                };
                (d * if F::SIGNED { f32::from(scale as i8) } else { f32::from(scale) }, -(m * f32::from(min)))
            };
            for (i, y) in y.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let col = g * F::GROUP + 4 * i;
                let block = &blocks[col / COLS * F::Bits::BYTES..];
                let q = F::Bits::get(block, col % COLS / 4, r).to_le_bytes();
                *y = q.map(|q| (i32::from(q) - F::OFFSET) as f32 * scale + min);
            }
        }
    }
}
