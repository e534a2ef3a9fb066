//! All buffers that the kernels of a plan bind.

use super::states::{States, Uses};
use super::tables::Tables;
use super::weights::Weights;
use super::{states, weights};
use crate::backend::webgpu::device::{Gpu, check_binding};
use crate::backend::webgpu::dispatch::{ROW_WORDS, ROWS_AT};
use crate::backend::webgpu::kernels::launch::Operand;
use crate::backend::webgpu::kernels::{self, moe};
use crate::backend::webgpu::tuning::Tuning;
use crate::backend::{BLOCK, Limits, MAX_SEGMENTS};
use crate::error::Result;
use crate::graph::{Dim, Op, Plan, Slot, SlotId, ValueId};

pub(crate) struct Buffers {
    pub weights: Weights,
    pub states: States,
    /// The step uniform, and from [`ROWS_AT`] the rows and the tables of their blocks.
    pub step: wgpu::Buffer,
    slots: Vec<wgpu::Buffer>,
    pub tables: Tables,
    /// Intermediate results between the kernels of one node.
    scratch: wgpu::Buffer,
    /// The rows that steps give.
    pub given: Option<wgpu::Buffer>,
    /// Rows of x quantised to int8, between the kernels of one node.
    quantized: wgpu::Buffer,
    /// Rows of the step sorted by expert, for each slot that holds a route.
    groups: Vec<(SlotId, wgpu::Buffer)>,
}

impl Buffers {
    pub(crate) fn new(gpu: &Gpu, plan: &Plan, limits: Limits, tuning: Tuning) -> Result<Self> {
        let g = &plan.graph;
        let weights = Weights::new(gpu, g)?;
        let slot = |s: &Slot| gpu.storage("slot", slot_bytes(s, limits));
        let slots = plan.slots.slots.iter().map(slot).collect::<Result<_>>()?;
        let states = States::new(gpu, g, limits)?;
        let segments = MAX_SEGMENTS.min(limits.max_tokens.max(1));
        let tables = segments * Uses::of(g).kinds() * limits.n_ctx.div_ceil(BLOCK);
        let step = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("step"),
            size: ROWS_AT + ((limits.max_tokens.max(1) * ROW_WORDS + tables) * 4) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let tables = Tables::new(gpu, g)?;
        let scratch = gpu.storage("scratch", kernels::scratch_bytes(g, limits, tuning))?;
        let given = given_bytes(plan, limits);
        let given = (given > 0).then(|| gpu.storage("given", given)).transpose()?;
        let quantized = gpu.storage("quantized", kernels::quantized_bytes(g, limits, tuning))?;
        let groups = groups(plan, limits, tuning).into_iter();
        let groups = groups.map(|(s, bytes)| Ok((s, gpu.storage("groups", bytes)?))).collect::<Result<_>>()?;
        Ok(Self { weights, states, step, slots, tables, scratch, given, quantized, groups })
    }

    /// How many buffers there are.
    pub(crate) fn count(&self) -> u64 {
        let single = [&self.step, &self.scratch, &self.quantized].len() + self.given.iter().len();
        let shared = self.slots.len() + self.tables.all().count() + self.groups.len() + single;
        shared as u64 + self.states.buffers() + self.weights.buffers()
    }

    /// Bytes of all buffers except weights and states.
    pub(crate) fn scratch_bytes(&self) -> u64 {
        let groups = self.groups.iter().map(|(_, b)| b);
        let rest = [&self.step, &self.scratch, &self.quantized];
        self.slots
            .iter()
            .chain(self.tables.all())
            .chain(groups)
            .chain(&self.given)
            .chain(rest)
            .map(wgpu::Buffer::size)
            .sum()
    }

    pub(crate) fn slot(&self, s: SlotId) -> &wgpu::Buffer {
        &self.slots[s.0 as usize]
    }

    pub(crate) fn get(&self, plan: &Plan, operand: &Operand) -> &wgpu::Buffer {
        match operand {
            Operand::Rows => &self.step,
            Operand::Value(v) => self.slot(plan.slot(*v)),
            Operand::Weight(w, part) => &self.weights.parts(*w)[*part].buffer,
            Operand::State(s) => self.states.get(*s),
            Operand::Table(table) => self.tables.get(table),
            Operand::Groups(route) => {
                let slot = plan.slot(*route);
                let found = self.groups.iter().find(|(s, _)| *s == slot);
                &found.expect("each route that has tiles has groups").1
            }
            Operand::Given => self.given.as_ref().expect("the op that reads it is in the graph"),
            Operand::Scratch => &self.scratch,
            Operand::Quantized => &self.quantized,
        }
    }
}

/// Refuses a plan with a buffer that is larger than a binding, before any is allocated. Tables of norms and biases are
/// small beside them.
pub(crate) fn check(plan: &Plan, limits: Limits, tuning: Tuning, max_binding: u64) -> Result<()> {
    let g = &plan.graph;
    weights::check(g, max_binding)?;
    states::check(g, limits, max_binding)?;
    let scratch = [
        kernels::scratch_bytes(g, limits, tuning),
        kernels::quantized_bytes(g, limits, tuning),
        given_bytes(plan, limits),
    ];
    let slots = plan.slots.slots.iter().map(|s| slot_bytes(s, limits));
    let groups = groups(plan, limits, tuning).into_iter().map(|(_, bytes)| bytes);
    let mut all = slots.chain(scratch).chain(groups);
    all.try_for_each(|bytes| check_binding("scratch of a step", bytes, max_binding))
}

fn given_bytes(plan: &Plan, limits: Limits) -> u64 {
    (limits.max_tokens * plan.graph.given_columns() * 4) as u64
}

fn slot_bytes(s: &Slot, limits: Limits) -> u64 {
    let rows = if s.rows == Dim::Tokens { limits.max_tokens } else { limits.max_outputs };
    (rows * s.cols * 4) as u64
}

/// Bytes of the rows sorted by expert, for each slot that holds a route.
fn groups(plan: &Plan, limits: Limits, tuning: Tuning) -> Vec<(SlotId, u64)> {
    let g = &plan.graph;
    let mut all: Vec<(SlotId, u64)> = Vec::new();
    for (i, node) in g.nodes.iter().enumerate() {
        let Op::MoeRoute { x, n_used, .. } = &node.op else { continue };
        let (n_expert, slot) = (g.shape(*x).cols, plan.slot(ValueId(i as u32)));
        let tiled = !moe::moe_tiles(n_expert, *n_used, tuning).is_empty();
        if tiled && !all.iter().any(|(s, _)| *s == slot) {
            all.push((slot, moe::group_bytes(n_expert, *n_used, limits.max_tokens) as u64));
        }
    }
    all
}
