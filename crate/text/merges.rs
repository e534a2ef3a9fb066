//! The merges of byte-level BPE: which neighbours become one token, and which of them first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use super::index::{Index, Table};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Meta, Strings};

const KEY: &str = "tokenizer.ggml.merges";
/// The id of a symbol that was joined to the one before; no vocabulary has so many tokens.
const JOINED: u32 = u32::MAX;

/// Two tokens and the one that they make.
#[derive(Clone, Copy, PartialEq)]
struct Merge {
    left: u32,
    right: u32,
    token: u32,
}

/// All merges; the rank of one is its place in the file.
pub(super) struct Merges {
    ranked: Vec<Merge>,
    table: Table,
}

/// A token of a word, between its neighbours.
struct Symbol {
    id: u32,
    prev: usize,
    next: usize,
}

/// A word while it is merged; the memory serves the next one.
#[derive(Default)]
pub(super) struct Word {
    symbols: Vec<Symbol>,
    /// Rank and left symbol of pairs, also of those that are gone since.
    queue: BinaryHeap<Reverse<(u32, usize)>>,
}

impl Merges {
    /// Reads the merges of the file; `tokens` as the file spells them.
    pub(super) fn new(meta: &Meta, tokens: &Strings, index: &Index) -> Result<Merges> {
        let Some(lines) = meta.opt_strings(KEY)? else {
            bail!(BadTokenizer, "a byte-level BPE vocabulary needs `{KEY}`, an array of strings");
        };
        let mut merges = Merges { ranked: Vec::with_capacity(lines.len()), table: Table::with_capacity(lines.len()) };
        let mut joined = Vec::new();
        for (rank, line) in lines.iter().enumerate() {
            let Some((left, right)) = split(line) else {
                bail!(BadTokenizer, "merge {rank} must be two tokens separated by a space");
            };
            // Most files list merges in the order of the tokens that they make.
            let next = merges.ranked.last().map_or(0, |m| m.token + 1);
            let token = tokens.get(next as usize).is_some_and(|t| is_joined(t, left, right)).then_some(next);
            let token = token.or_else(|| {
                joined.clear();
                joined.extend_from_slice(left);
                joined.extend_from_slice(right);
                index.get(tokens, &joined)
            });
            let (Some(left), Some(right), Some(token)) = (index.get(tokens, left), index.get(tokens, right), token)
            else {
                let line = String::from_utf8_lossy(line);
                let detail = format!("merge {rank}, `{line}`, is of tokens that are not in the vocabulary");
                return Err(Error::new(ErrorKind::BadTokenizer, detail).at(format!("key `{KEY}`")));
            };
            merges.push(Merge { left, right, token })?;
        }
        Ok(merges)
    }

    /// Adds the merge of the next rank. Of several of one pair the last one counts.
    #[inline(never)]
    fn push(&mut self, merge: Merge) -> Result<()> {
        let Merges { ranked, table } = self;
        let rank = ranked.len() as u32;
        let hash = table.hasher.hash_one(key(merge.left, merge.right));
        let Some((place, _)) = table.entry(hash, |rank| ranked[rank as usize] == merge) else {
            bail!(BadTokenizer, "merge {rank} collides with too many others");
        };
        *place = rank;
        ranked.push(merge);
        Ok(())
    }

    #[inline(never)]
    fn rank(&self, left: u32, right: u32) -> Option<u32> {
        let same = |rank: u32| {
            let merge = self.ranked[rank as usize];
            (merge.left, merge.right) == (left, right)
        };
        self.table.get(self.table.hasher.hash_one(key(left, right)), same)
    }

    /// Takes away the ids that some merge takes or makes.
    pub(super) fn retain_unused(&self, ids: &mut Vec<u32>) {
        let mut used = vec![false; ids.iter().max().map_or(0, |&id| id as usize + 1)];
        for id in self.ranked.iter().flat_map(|m| [m.left, m.right, m.token]) {
            if let Some(used) = used.get_mut(id as usize) {
                *used = true;
            }
        }
        ids.retain(|&id| !used[id as usize]);
    }

    /// Appends what becomes of the tokens of a word.
    pub(super) fn apply(&self, word: &mut Word, ids: impl Iterator<Item = u32>, out: &mut Vec<u32>) {
        let Word { symbols, queue } = word;
        symbols.clear();
        symbols.extend(ids.enumerate().map(|(i, id)| Symbol { id, prev: i.wrapping_sub(1), next: i + 1 }));
        for left in 1..symbols.len() {
            self.propose(symbols, left - 1, left, queue);
        }
        while let Some(Reverse((rank, left))) = queue.pop() {
            let merge = self.ranked[rank as usize];
            let right = symbols[left].next;
            // One of the two was joined with another neighbour since.
            if symbols[left].id != merge.left || symbols.get(right).is_none_or(|s| s.id != merge.right) {
                continue;
            }
            let (prev, next) = (symbols[left].prev, symbols[right].next);
            symbols[right].id = JOINED;
            symbols[left].id = merge.token;
            symbols[left].next = next;
            if next < symbols.len() {
                symbols[next].prev = left;
                self.propose(symbols, left, next, queue);
            }
            if prev < symbols.len() {
                self.propose(symbols, prev, left, queue);
            }
        }
        out.extend(symbols.iter().map(|s| s.id).filter(|&id| id != JOINED));
    }

    fn propose(&self, symbols: &[Symbol], left: usize, right: usize, queue: &mut BinaryHeap<Reverse<(u32, usize)>>) {
        if let Some(rank) = self.rank(symbols[left].id, symbols[right].id) {
            queue.push(Reverse((rank, left)));
        }
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// The two tokens of a line, if it has two.
// Functions of their own: a browser optimises what is called often, not a loop that runs once.
#[inline(never)]
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|&b| b == b' ')?;
    let (left, right) = (&line[..at], &line[at + 1..]);
    (!left.is_empty() && !right.is_empty()).then_some((left, right))
}

#[inline(never)]
fn is_joined(token: &[u8], left: &[u8], right: &[u8]) -> bool {
    token.strip_prefix(left) == Some(right)
}
