//! A prepared plan: packed weights, states and slots in memory; `run` executes its nodes.

use super::activations::{Quantized, Rows};
use super::arena::{Arena, Place};
use super::attention;
use super::decode::{Matrix, decode_row};
use super::delta;
use super::lanes::Isa;
use super::matmul_f32::scratch_len;
use super::memory::zeros;
use super::moe;
use super::packed::{self, Packed};
use super::pool::{Groups, Pool};
use super::rows::RopeTable;
use super::states::States;
use crate::backend::{Activations, FINE_POSITIONS, Limits, Memory, Step};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Dim, Graph, Op, Plan, Rope, ValueId, WeightId};
use crate::quant;

mod run;

pub(super) struct Model {
    plan: Plan,
    limits: Limits,
    weights: Vec<Weight>,
    memory: Arena,
    /// The decoded weights that are read value by value (norms, biases, frequencies). Others are empty.
    vectors: Vec<Vec<f32>>,
    pub states: States,
    /// Room for one token's sums of attention.
    sums: Vec<f32>,
    /// `[max_tokens | max_outputs, cols]`. A value starts at the start of its slot.
    slots: Vec<Vec<f32>>,
    /// The value that was last quantised to int8, and its rows.
    quantized: (Option<ValueId>, Quantized),
    /// The route that was last sorted by expert, and its rows.
    groups: (Option<ValueId>, Groups),
    ropes: Vec<RopeTable>,
}

struct Weight {
    place: Place,
    /// Repacked for int8 activations; otherwise the bytes are as in the file.
    packed: Option<Packed>,
}

impl Model {
    pub(super) fn new(plan: Plan, limits: Limits, activations: Activations) -> Result<Self> {
        let g = &plan.graph;
        for w in g.nodes.iter().flat_map(|n| n.op.weights()).map(|w| g.weight(w)) {
            if !quant::decodable(w.dtype) {
                return Err(Error::new(ErrorKind::UnsupportedType, format!("no kernel reads {}", w.dtype)).at(&w.name));
            }
        }
        let packed: Vec<_> = (g.weights.iter().zip(packed::parts(g, activations)))
            .map(|(w, parts)| parts.and_then(|parts| Packed::new(w.dtype, parts, w.rows / parts, w.cols)))
            .collect();
        let sizes = g.weights.iter().zip(&packed).map(|(w, p)| p.as_ref().map_or(w.bytes(), Packed::bytes));
        let (memory, places) = Arena::new(sizes)?;
        let weights: Vec<_> = places.into_iter().zip(packed).map(|(place, packed)| Weight { place, packed }).collect();
        let states = States::new(g, limits)?;
        let sums = g.nodes.iter().filter_map(|n| match &n.op {
            Op::Attention { attn, .. } => Some(attention::sums_of_token(attn, limits.n_ctx)),
            _ => None,
        });
        let sums = zeros(sums.max().unwrap_or(0))?;
        let rows = |d: Dim| match d {
            Dim::Tokens => limits.max_tokens,
            Dim::Outputs => limits.max_outputs,
        };
        let slots = plan.slots.slots.iter().map(|s| zeros(rows(s.rows) * s.cols)).collect::<Result<_>>()?;
        let vectors = vec![Vec::new(); g.weights.len()];
        let whole = g.nodes.iter().filter_map(|n| match n.op {
            Op::MatMul { w, x, .. } | Op::MoeMatMul { w, x, .. } if weights[w.index()].packed.is_some() => {
                let shape = g.shape(x);
                Some((rows(shape.rows), rows(shape.rows) * shape.cols / quant::Q8_COLS))
            }
            _ => None,
        });
        let (most, blocks) = whole.fold((0, 0), |(a, b), (rows, blocks)| (a.max(rows), b.max(blocks)));
        let quantized = (None, Quantized::new(most, blocks)?);
        let (ropes, groups) = Default::default();
        Ok(Self { weights, memory, vectors, states, sums, slots, quantized, groups, ropes, limits, plan })
    }

    pub(super) fn write_weight(&mut self, pool: &Pool, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        let Some(place) = self.weights.get_mut(w.index()) else { bail!(InvalidArgument, "the plan has no weight {w}") };
        let weight = self.plan.graph.weight(w);
        let bad = |what: String| Err(Error::new(ErrorKind::InvalidArgument, what).at(&weight.name));
        let len = weight.bytes();
        let Some(end) = offset.checked_add(bytes.len()).filter(|&end| end <= len) else {
            return bad(format!("{} bytes at {offset} do not fit into the {len} bytes of the weight", bytes.len()));
        };
        let memory = self.memory.get_mut(place.place);
        match &mut place.packed {
            None => memory[offset..end].copy_from_slice(bytes),
            Some(packed) => {
                if !packed.write(pool, memory, offset, bytes) {
                    return bad(format!("some of the {} bytes at {offset} came before", bytes.len()));
                }
            }
        }
        Ok(())
    }

    /// Decodes what is read value by value and makes a table for each kind of rope.
    pub(super) fn finish_weights(&mut self, isa: Isa) {
        let nodes = std::mem::take(&mut self.plan.graph.nodes);
        self.ropes.clear();
        for op in nodes.iter().map(|n| &n.op) {
            if !matches!(op, Op::Embed { .. } | Op::MatMul { .. } | Op::MoeMatMul { .. }) {
                for w in op.weights() {
                    let weight = self.plan.graph.weight(w);
                    let mut values = vec![0.0; weight.rows * weight.cols];
                    for (r, row) in values.chunks_exact_mut(weight.cols).enumerate() {
                        self.decode_row(isa, w, r, row);
                    }
                    self.vectors[w.index()] = values;
                }
            }
            if let Op::Rope { rope, .. } = op
                && self.table(rope).is_none()
            {
                let freqs = rope.freqs.map(|w| &*self.vectors[w.index()]);
                self.ropes.push(RopeTable::new(*rope, freqs));
            }
        }
        self.plan.graph.nodes = nodes;
    }

    /// The scratch that a worker needs, such as decoded rows of a matrix, or the queries and scores of attention.
    pub(super) fn scratch_len(&self) -> usize {
        let g = self.graph();
        let of = |op: &Op| match op {
            Op::MatMul { w, .. } | Op::MoeMatMul { w, .. } => scratch_len(g.weight(*w).cols),
            Op::Attention { attn, .. } => attention::scratch_len(attn),
            Op::SsmConv { w, .. } => delta::conv_scratch_len(g.weight(*w).cols),
            Op::DeltaRule { delta, .. } => delta::rule_scratch_len(*delta),
            _ => 0,
        };
        g.nodes.iter().map(|n| of(&n.op)).max().unwrap_or(0)
    }

    /// The logits of the last step.
    pub(super) fn output(&self, step: &Step<'_>) -> &[f32] {
        let part = self.plan.graph.part(step.entry).expect("`run` refuses entries that are not there");
        self.value(part.output, step)
    }

    pub(super) fn memory(&self) -> Memory {
        let f32s = |all: &[Vec<f32>]| all.iter().map(|v| 4 * v.len() as u64).sum::<u64>();
        let (kv, states) = self.states.bytes();
        Memory {
            weights: self.memory.bytes() as u64 + f32s(&self.vectors),
            kv,
            states,
            scratch: f32s(&self.slots) + (self.quantized.1.bytes() + size_of_val(&*self.sums)) as u64,
            staging: 0,
        }
    }

    /// Quantises a value to int8 once; all matrices with this input use it.
    fn quantize(&mut self, pool: &Pool, isa: Isa, x: ValueId, step: &Step<'_>) {
        if self.quantized.0 != Some(x) {
            let mut quantized = std::mem::take(&mut self.quantized.1);
            let fine = step.positions(self.plan.graph.shape(x).rows).map(|pos| pos < FINE_POSITIONS);
            quantized.quantize(pool, isa, self.value(x, step), fine);
            self.quantized.1 = quantized;
        }
        self.quantized.0 = Some(x);
    }

    /// Sorts the rows of a route by expert once; all matrices of these experts use it.
    fn sort(&mut self, route: ValueId, n_expert: usize, step: &Step<'_>) {
        if self.groups.0 != Some(route) {
            let mut groups = std::mem::take(&mut self.groups.1);
            moe::by_expert(self.value(route, step), self.cols(route) / 2, n_expert, &mut groups);
            self.groups = (Some(route), groups);
        }
    }

    /// The value that was last quantised, as int8.
    fn quantized(&self) -> Rows<'_> {
        self.quantized.1.rows()
    }

    fn value(&self, v: ValueId, step: &Step<'_>) -> &[f32] {
        let shape = self.plan.graph.shape(v);
        &self.slots[self.plan.slot(v).0 as usize][..step.rows(shape) * shape.cols]
    }

    fn cols(&self, v: ValueId) -> usize {
        self.plan.graph.shape(v).cols
    }

    /// A weight in the file's layout.
    fn matrix(&self, w: WeightId) -> Matrix<'_> {
        let weight = self.graph().weight(w);
        Matrix { dtype: weight.dtype, bytes: self.bytes(w), cols: weight.cols }
    }

    fn bytes(&self, w: WeightId) -> &[u8] {
        self.memory.get(self.weights[w.index()].place)
    }

    /// Row `row` of a weight.
    fn decode_row(&self, isa: Isa, w: WeightId, row: usize, y: &mut [f32]) {
        match &self.weights[w.index()].packed {
            None => decode_row(isa, self.matrix(w), row, y),
            Some(packed) => packed.decode_row(self.bytes(w), row, y),
        }
    }

    fn table(&self, rope: &Rope) -> Option<&RopeTable> {
        self.ropes.iter().find(|t| t.rope == *rope)
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.plan.graph
    }
}
