//! The words of the step buffer: the step uniform, the rows, and the tables of their sequences' blocks.

use crate::backend::webgpu::dispatch::{HEAD, ROW_WORDS, ROWS_AT, SEGMENT, STEP_WORDS};
use crate::backend::webgpu::prepare::states::Uses;
use crate::backend::{MAX_KEPT, Segment, Step};
use crate::graph::{CACHE_KINDS, CacheKind};

/// Replaces what is there by the words of a step, which was checked.
pub(crate) fn write(words: &mut Vec<u32>, step: &Step<'_>, uses: Uses) {
    words.clear();
    words.extend([step.len(), step.outputs(), step.segments.len(), step.keys()].map(|n| n as u32));
    words.resize(HEAD / 4, 0);
    let mut first = 0;
    for s in step.segments {
        let end = words.len() + SEGMENT / 4;
        let before = s.from.map_or(0, |slot| slot + 1);
        let kept = s.to.len().min(MAX_KEPT);
        words.extend([first as u32, s.tokens.len() as u32, s.outputs as u32, before, kept as u32]);
        words.extend([s.place.behind, s.place.start, s.place.width].map(|n| n as u32));
        words.extend(&s.to[..kept]);
        words.resize(end, 0);
        first += s.tokens.len();
    }
    words.resize(ROWS_AT as usize / 4, 0);
    let mut end = first * ROW_WORDS;
    for s in step.segments {
        let tables = CacheKind::ALL.map(|kind| {
            let entries = uses.entries(kind, s);
            end += entries.len();
            // Where entry 0 would be: those that no token sees are left out.
            ((end - entries.len()) as u32).wrapping_sub(entries.start as u32)
        });
        let row = |(i, id): (usize, &u32)| -> [u32; ROW_WORDS] { [*id, (s.pos + i) as u32, tables[0], tables[1]] };
        words.extend(s.tokens.iter().enumerate().flat_map(row));
    }
    for s in step.segments {
        CacheKind::ALL.iter().for_each(|kind| words.extend(entries(*kind, s, uses)));
    }
}

fn entries<'a>(kind: CacheKind, s: &Segment<'a>, uses: Uses) -> &'a [u32] {
    &s.blocks[kind as usize][uses.entries(kind, s)]
}

/// The part that the sampler writes.
pub(crate) fn sampling(words: &mut [u32]) -> &mut [u32] {
    &mut words[STEP_WORDS..HEAD / 4]
}

const _: () = assert!(SEGMENT == 4 * (8 + MAX_KEPT) && ROW_WORDS == 2 + CACHE_KINDS);
