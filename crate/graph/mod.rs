//! What a model computes, free of any device: a list of ops over matrices whose row count is known only at a step.
//!
//! `builder` makes nodes, `infer` gives and checks their shapes, `verify` holds the invariants, `passes` rewrite,
//! `memory` assigns values to slots, and `plan` is what a backend runs. What depends on a device is in the `FuseRules` that
//! its backend gives.

mod builder;
mod dump;
mod expand;
mod fused;
mod infer;
mod ir;
mod memory;
mod op;
pub mod passes;
mod plan;
mod reads;
mod rope;
mod rules;
mod verify;

pub use builder::Builder;
pub use expand::expand;
pub use fused::{Experts, FusedMatMul, Post, Pre, QkNorm, RopeStore, Term, norm_add_before};
pub(crate) use ir::ENTRIES;
pub use ir::{
    CACHE_KINDS, CacheKind, Dim, Entry, Graph, Node, Part, Shape, State, StateId, StateRows, ValueId, Weight, WeightId,
};
pub use memory::{Slot, SlotId, Slots, assign};
pub use op::{Act, Attention, Delta, Op};
pub use plan::{Plan, View};
pub use reads::WeightReads;
pub use rope::{Rope, RopeAxes, RopePairs};
pub use rules::FuseRules;
pub use verify::verify;
