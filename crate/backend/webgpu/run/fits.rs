//! What a step must be like to run.

use crate::backend::webgpu::prepare::states::{Room, Uses};
use crate::backend::{Limits, MAX_KEPT, MAX_SEGMENTS, Step};
use crate::bail;
use crate::error::Result;
use crate::graph::CacheKind;

/// Kernels run without bounds checks, so a step that does not fit must not start.
pub(super) fn fits(step: &Step<'_>, limits: Limits, uses: Uses) -> Result<()> {
    let n = step.segments.len();
    if !(1..=MAX_SEGMENTS).contains(&n) {
        bail!(InvalidArgument, "a step must have 1 to {MAX_SEGMENTS} segments, has {n}");
    }
    if step.len() > limits.max_tokens || step.segments.iter().any(|s| s.tokens.is_empty()) {
        let tokens = step.len();
        bail!(
            InvalidArgument,
            "a step must have 1 to {} tokens, some of each segment; it has {tokens}",
            limits.max_tokens
        );
    }
    for s in step.segments {
        let end = s.pos.saturating_add(s.tokens.len());
        if end > limits.n_ctx {
            bail!(ContextOverflow, "the step ends at position {end}, the context holds {}", limits.n_ctx);
        }
        if s.outputs > s.tokens.len() {
            bail!(InvalidArgument, "{} rows of logits exceed the {} tokens of a segment", s.outputs, s.tokens.len());
        }
        for kind in CacheKind::ALL {
            let (table, used) = (s.blocks[kind as usize], uses.entries(kind, s));
            if table.len() < used.end {
                bail!(InvalidArgument, "a table of {} {kind:?} blocks does not reach position {end}", table.len());
            }
        }
        if uses.recurrent && !(1..=MAX_KEPT.min(s.tokens.len())).contains(&s.to.len()) {
            bail!(InvalidArgument, "a segment of {} tokens cannot keep {} states", s.tokens.len(), s.to.len());
        }
    }
    if step.outputs() > limits.max_outputs {
        bail!(InvalidArgument, "{} rows of logits exceed the limit {}", step.outputs(), limits.max_outputs);
    }
    if uses.recurrent && step.len() > MAX_KEPT && step.segments.iter().any(|s| s.to.len() > 1) {
        bail!(InvalidArgument, "a step of {} tokens keeps one state of each segment, not more", step.len());
    }
    let segments_with_slots = if uses.recurrent { n } else { 0 };
    if !Room::of(step, uses).is_within(Room::most(limits)) || segments_with_slots > limits.slots {
        bail!(InvalidArgument, "the step names blocks or slots beyond {:?} and {}", limits.blocks, limits.slots);
    }
    Ok(())
}
