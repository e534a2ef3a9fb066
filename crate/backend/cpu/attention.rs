//! Attention over the rows of the cache, without a table of all scores: keys are processed in chunks, with a
//! running maximum of the scores (<https://arxiv.org/abs/2205.14135>). All query heads that share a key head read its
//! keys together.
//!
//! Chunks start at fixed positions, and the sums of each are computed separately and joined in order. So a token's
//! result is the same to the last bit however the prompt is split into steps and whichever thread computes a chunk.

use std::ops::Range;

use super::cache::{Cache, F32s, Paged, Panel};
use super::lanes::{Ints, Isa, Job};
use super::math;
use super::pool::{Pool, Tile};
use crate::backend::{BLOCK, KvType};
use crate::graph::Attention;

/// Keys of a chunk: two blocks. More need more room for scores, fewer more joins.
pub(super) const CHUNK: usize = 2 * BLOCK;

/// Rows of queries (tokens times heads) per task: enough that decoding a block of keys is cheap in comparison.
const QUERIES: usize = 64;

/// Consecutive tokens of one sequence: `y` and `q` [tokens, n_head * d_head]; `k` and `v` have the rows of all that they see;
/// the first token is at position `pos`.
pub(super) struct Attend<'a> {
    pub attn: Attention,
    pub q: &'a [f32],
    pub k: Paged<'a>,
    pub v: Paged<'a>,
    pub pos: usize,
    /// The position after the last one that a token without a causal mask sees.
    pub end: usize,
}

impl Attend<'_> {
    /// Query heads of a key head.
    fn group(&self) -> usize {
        self.attn.n_head / self.attn.n_kv_head
    }

    /// The positions that a token of the step sees.
    fn seen(&self, t: usize) -> Range<usize> {
        let Attention { causal, window, .. } = self.attn;
        let pos = self.pos + t;
        let end = if causal { pos + 1 } else { self.end };
        window.map_or(0..end, |w| (pos + 1).saturating_sub(w)..end.min(pos + w))
    }
}

/// Length of a row of sums: `[d_head]` rounded up to whole registers, then the largest score and the sum of weights.
fn sums_len(d_head: usize) -> usize {
    d_head.next_multiple_of(16) + 2
}

/// The scratch that a worker needs.
pub(super) fn scratch_len(attn: &Attention) -> usize {
    let queries = QUERIES.max(attn.n_head / attn.n_kv_head);
    queries * (attn.d_head + CHUNK + 2 * sums_len(attn.d_head)) + BLOCK * attn.d_head.next_multiple_of(16)
}

/// Length of the sums of all chunks of one token.
pub(super) fn sums_of_token(attn: &Attention, n_ctx: usize) -> usize {
    n_ctx.div_ceil(CHUNK) * attn.n_head * sums_len(attn.d_head)
}

/// `sums`: see [`sums_of_token`].
pub(super) fn attention(pool: &Pool, isa: Isa, a: &Attend<'_>, sums: &mut [f32], y: &mut [f32]) {
    let Attention { n_head, n_kv_head, d_head: d, .. } = a.attn;
    let (tokens, group) = (y.len() / (n_head * d), a.group());
    if tokens == 1 {
        // One token has too few heads to occupy all threads, so they share its chunks.
        let seen = a.seen(0);
        let first = seen.start / CHUNK;
        let chunks = seen.end.div_ceil(CHUNK) - first;
        let row = group * sums_len(d);
        let sums = &mut sums[..chunks * n_kv_head * row];
        pool.tiles(sums, row, (1, row), |mut tile, worker| {
            let (i, scratch) = (tile.rows.start, &mut *pool.scratch(worker));
            let task = Task { a, isa, head: i % n_kv_head, tokens: 0..1 };
            let mut room = Room::new(&task, scratch);
            task.queries(room.q);
            task.chunk(first + i / n_kv_head, &mut room, tile.row(i));
        });
        join_chunks(isa, a.attn, sums, y);
    } else {
        let fair = tokens.div_ceil((2 * pool.threads()).div_ceil(n_kv_head));
        let grain = (QUERIES / group).clamp(1, fair.max(1));
        pool.tiles(y, n_head * d, (grain, group * d), |tile, worker| {
            let task = Task { a, isa, head: tile.cols.start / (group * d), tokens: tile.rows.clone() };
            task.all_chunks(tile, &mut pool.scratch(worker));
        });
    }
}

/// Joins the chunks of one token, in order. `sums` [chunks, n_head, sums_len].
fn join_chunks(isa: Isa, attn: Attention, sums: &mut [f32], y: &mut [f32]) {
    let len = sums_len(attn.d_head);
    let (total, others) = sums.split_at_mut(attn.n_head * len);
    isa.wide(
        #[inline(always)]
        || {
            for part in others.chunks_exact(total.len()) {
                total.chunks_exact_mut(len).zip(part.chunks_exact(len)).for_each(|(total, part)| join(total, part));
            }
            total.chunks_exact(len).zip(y.chunks_exact_mut(attn.d_head)).for_each(|(total, y)| share(total, y));
        },
    );
}

/// Some tokens with the query heads of one key head.
struct Task<'a> {
    a: &'a Attend<'a>,
    isa: Isa,
    head: usize,
    tokens: Range<usize>,
}

/// The scratch of a task.
struct Room<'a> {
    /// Queries times the scale, [queries, d_head].
    q: &'a mut [f32],
    /// Scores, then weights, [queries, CHUNK].
    scores: &'a mut [f32],
    /// A block in f32.
    block: &'a mut [f32],
    /// [queries, sums_len] each: the sums so far, and those of the current chunk.
    total: &'a mut [f32],
    part: &'a mut [f32],
}

impl<'a> Room<'a> {
    fn new(task: &Task<'_>, scratch: &'a mut [f32]) -> Self {
        let (queries, d) = (task.tokens.len() * task.a.group(), task.a.attn.d_head);
        let (q, rest) = scratch.split_at_mut(queries * d);
        let (scores, rest) = rest.split_at_mut(queries * CHUNK);
        let (block, rest) = rest.split_at_mut(BLOCK * d.next_multiple_of(16));
        let (total, rest) = rest.split_at_mut(queries * sums_len(d));
        let part = &mut rest[..queries * sums_len(d)];
        Self { q, scores, block, total, part }
    }
}

impl Task<'_> {
    /// Fills in the queries.
    fn queries(&self, q: &mut [f32]) {
        let Attention { n_head, d_head: d, scale, .. } = self.a.attn;
        let group = self.a.group();
        for (t, q) in self.tokens.clone().zip(q.chunks_exact_mut(group * d)) {
            let from = &self.a.q[(t * n_head + self.head * group) * d..][..group * d];
            q.iter_mut().zip(from).for_each(|(q, x)| *q = x * scale);
        }
    }

    /// Which of the keys from `first` on a query sees.
    fn visible(&self, query: usize, first: usize) -> Range<usize> {
        let seen = self.a.seen(self.tokens.start + query / self.a.group());
        seen.start.saturating_sub(first).min(CHUNK)..seen.end.saturating_sub(first).min(CHUNK)
    }

    fn all_chunks(&self, mut tile: Tile<'_>, scratch: &mut [f32]) {
        let (d, group) = (self.a.attn.d_head, self.a.group());
        let len = sums_len(d);
        let mut room = Room::new(self, scratch);
        self.queries(room.q);
        let first = self.a.seen(self.tokens.start).start / CHUNK;
        let end = self.a.seen(self.tokens.end - 1).end.div_ceil(CHUNK);
        for chunk in first..end {
            let part = std::mem::take(&mut room.part);
            self.chunk(chunk, &mut room, part);
            room.part = part;
            if chunk == first {
                room.total.copy_from_slice(room.part);
                continue;
            }
            self.isa.wide(
                #[inline(always)]
                || {
                    let sums = room.total.chunks_exact_mut(len).zip(room.part.chunks_exact(len));
                    let seeing = sums.enumerate().filter(|(i, _)| !self.visible(*i, chunk * CHUNK).is_empty());
                    seeing.for_each(|(_, (total, part))| join(total, part));
                },
            );
        }
        for (i, total) in room.total.chunks_exact(len).enumerate() {
            share(total, &mut tile.row(self.tokens.start + i / group)[i % group * d..][..d]);
        }
    }

    /// Computes the sums of all queries over the keys of a chunk.
    fn chunk(&self, chunk: usize, room: &mut Room<'_>, sums: &mut [f32]) {
        let a = self.a;
        let (d, len) = (a.attn.d_head, sums_len(a.attn.d_head));
        let first = chunk * CHUNK;
        let seen = a.seen(self.tokens.start).start..a.seen(self.tokens.end - 1).end;
        let begin = |b: usize| first + b * BLOCK;
        let blocks = || (0..CHUNK / BLOCK).filter(|b| begin(*b) < seen.end && seen.start < begin(b + 1));
        for b in blocks() {
            let block = a.k.block(chunk * (CHUNK / BLOCK) + b, self.head);
            let (x, y) = (Rows { values: &*room.q, stride: d, len: d }, &mut room.scores[b * BLOCK..]);
            self.isa.run(Product { cache: a.k.cache, block, decoded: room.block, x, y, stride: CHUNK, fresh: true });
        }
        self.isa.wide(
            #[inline(always)]
            || {
                let rows = room.scores.chunks_exact_mut(CHUNK).zip(sums.chunks_exact_mut(len));
                for (i, (scores, sums)) in rows.enumerate() {
                    let visible = self.visible(i, first);
                    scores[..visible.start].fill(0.0);
                    scores[visible.end..].fill(0.0);
                    let (max, sum) = weigh(&mut scores[visible], a.attn.softcap);
                    sums[..len - 2].fill(0.0);
                    (sums[len - 2], sums[len - 1]) = (max, sum);
                }
            },
        );
        for b in blocks() {
            let keys = (seen.end - begin(b)).min(BLOCK);
            let block = a.v.block(chunk * (CHUNK / BLOCK) + b, self.head);
            let x = Rows { values: &room.scores[b * BLOCK..], stride: CHUNK, len: keys };
            let (cache, decoded) = (a.v.cache, &mut *room.block);
            self.isa.run(Product { cache, block, decoded, x, y: sums, stride: len, fresh: false });
        }
    }
}

/// Turns scores into weights and returns their maximum and the sum of the weights. No scores give no weight.
#[inline(always)]
fn weigh(scores: &mut [f32], softcap: Option<f32>) -> (f32, f32) {
    if let Some(cap) = softcap {
        scores.iter_mut().for_each(|s| *s = math::softcap(*s, cap));
    }
    let mut most = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = scores.as_chunks::<16>();
    for c in chunks {
        for i in 0..16 {
            most[i] = if c[i] > most[i] { c[i] } else { most[i] };
        }
    }
    let max = most.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &s| if s > m { s } else { m });
    let mut sums = [0f32; 16];
    let (chunks, rest) = scores.as_chunks_mut::<16>();
    for c in chunks {
        for i in 0..16 {
            c[i] = math::exp(c[i] - max);
            sums[i] += c[i];
        }
    }
    for (s, sum) in rest.iter_mut().zip(&mut sums) {
        *s = math::exp(*s - max);
        *sum += *s;
    }
    (max, sums.iter().sum())
}

/// Adds the sums of a later chunk, which saw at least one key.
#[inline(always)]
fn join(total: &mut [f32], part: &[f32]) {
    let d = part.len() - 2;
    let max = if part[d] > total[d] { part[d] } else { total[d] };
    let (old, new) = (math::exp(total[d] - max), math::exp(part[d] - max));
    total[..d].iter_mut().zip(part).for_each(|(t, p)| *t = *t * old + p * new);
    total[d + 1] = total[d + 1] * old + part[d + 1] * new;
    total[d] = max;
}

/// Divides the summed values by the sum of the weights.
#[inline(always)]
fn share(total: &[f32], y: &mut [f32]) {
    let factor = 1.0 / total[total.len() - 1];
    y.iter_mut().zip(total).for_each(|(y, t)| *y = t * factor);
}

/// Rows of `len` values, `stride` apart.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    stride: usize,
    len: usize,
}

/// The products of the rows of `x` with the rows of a block, added to the rows of `y`, or stored there if `fresh`.
struct Product<'a> {
    cache: &'a Cache,
    block: &'a [u8],
    /// Room for the block in f32.
    decoded: &'a mut [f32],
    x: Rows<'a>,
    y: &'a mut [f32],
    stride: usize,
    fresh: bool,
}

impl Job for Product<'_> {
    type Out = ();

    /// For many rows the block is decoded to f32 first, for few it is read as it is.
    #[inline(always)]
    fn run<L: Ints>(self) {
        let Self { cache, block, decoded, x, y, stride, fresh } = self;
        let layout = cache.layout;
        let many = x.values.len().div_ceil(x.stride) > 8;
        let out = (y, stride, fresh);
        match layout.kind {
            KvType::F16 if !many => product::<L, _>(layout.f16s(block), layout.width(), x, out),
            KvType::Q8_0 if !many => product::<L, _>(layout.q8s(block), layout.width(), x, out),
            kind => {
                let values = if kind == KvType::F32 {
                    layout.f32s(block)
                } else {
                    let decoded = &mut decoded[..layout.rows() * layout.width()];
                    layout.decode::<L>(block, decoded);
                    F32s(decoded, layout.width())
                };
                product::<L, _>(values, layout.width(), x, out);
            }
        }
    }
}

#[inline(always)]
fn product<L: Ints, P: Panel>(p: P, width: usize, x: Rows<'_>, (y, stride, fresh): (&mut [f32], usize, bool)) {
    let rows = x.values.len().div_ceil(x.stride);
    let mut r = 0;
    while r < rows {
        let x = Rows { values: &x.values[r * x.stride..], ..x };
        let out = (&mut y[r * stride..], stride, fresh);
        r += match rows - r {
            4.. if L::ROWS == 4 => columns::<L, P, 4>(p, width, x, out),
            2.. => columns::<L, P, 2>(p, width, x, out),
            _ => columns::<L, P, 1>(p, width, x, out),
        }
    }
}

/// Multiplies R rows by all columns; returns R.
#[inline(always)]
fn columns<L: Ints, P: Panel, const R: usize>(
    p: P,
    width: usize,
    x: Rows<'_>,
    (y, stride, fresh): (&mut [f32], usize, bool),
) -> usize {
    let mut rows: [&[f32]; R] = [&[]; R];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &x.values[r * x.stride..][..x.len];
    }
    let mut c = 0;
    while L::ROOMY && c + 64 <= width {
        tile::<L, P, R, 4>(p, rows, (y, stride, fresh), c);
        c += 64;
    }
    while c < width {
        tile::<L, P, R, 1>(p, rows, (y, stride, fresh), c);
        c += 16;
    }
    R
}

/// R rows times 16 C columns: the sums stay in registers.
#[inline(always)]
fn tile<L: Ints, P: Panel, const R: usize, const C: usize>(
    p: P,
    x: [&[f32]; R],
    (y, stride, fresh): (&mut [f32], usize, bool),
    c: usize,
) {
    let mut acc = [[L::zero(); C]; R];
    if !fresh {
        for r in 0..R {
            let y = &y[r * stride + c..][..16 * C].as_chunks().0[..C];
            for k in 0..C {
                acc[r][k] = L::load(&y[k]);
            }
        }
    }
    p.each::<L, C>(
        x[0].len(),
        c,
        #[inline(always)]
        |i, b| {
            for (acc, x) in acc.iter_mut().zip(&x) {
                let a = L::splat(x[i]);
                for k in 0..C {
                    acc[k] = L::fma(a, b[k], acc[k]);
                }
            }
        },
    );
    for r in 0..R {
        let y = &mut y[r * stride + c..][..16 * C].as_chunks_mut().0[..C];
        for k in 0..C {
            y[k] = L::store(acc[r][k]);
        }
    }
}
