//! Finds tokens that are recognised as they stand in a text: control and user-defined ones.

use super::vocab::Vocab;

/// A stretch of a text: ordinary text, or one token that was recognised.
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// All tokens that may be recognised, in the order of their bytes.
pub(super) struct Matcher {
    sorted: Vec<u32>,
    first: [bool; 256],
}

impl Matcher {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let findable = |id: &u32| {
            let special = vocab.is_control(*id) || vocab.is_user_defined(*id);
            // Only whole characters, so that a match never ends inside one.
            special && !vocab.bytes(*id).is_empty() && std::str::from_utf8(vocab.bytes(*id)).is_ok()
        };
        let mut sorted: Vec<u32> = (0..vocab.len() as u32).filter(findable).collect();
        sorted.sort_by_key(|&id| (vocab.bytes(id), id));
        let mut first = [false; 256];
        for &id in &sorted {
            first[usize::from(vocab.bytes(id)[0])] = true;
        }
        Self { sorted, first }
    }

    /// Cuts `text` at the tokens that `allow` lets through: the leftmost first, of those the longest.
    pub(super) fn split<'t>(&self, vocab: &Vocab, text: &'t str, allow: impl Fn(u32) -> bool) -> Vec<Fragment<'t>> {
        let mut out = Vec::new();
        let (mut from, mut at) = (0, 0);
        while at < text.len() {
            match self.longest_at(vocab, &text.as_bytes()[at..], &allow) {
                Some((id, len)) => {
                    if from < at {
                        out.push(Fragment::Text(&text[from..at]));
                    }
                    out.push(Fragment::Token(id));
                    at += len;
                    from = at;
                }
                None => at += 1,
            }
        }
        if from < text.len() {
            out.push(Fragment::Text(&text[from..]));
        }
        out
    }

    /// Narrows the sorted list byte by byte, so the cost depends on the longest token and not on their number.
    fn longest_at(&self, vocab: &Vocab, text: &[u8], allow: &impl Fn(u32) -> bool) -> Option<(u32, usize)> {
        if !self.first[usize::from(text[0])] {
            return None;
        }
        let mut left = &self.sorted[..];
        let mut best = None;
        for (i, &byte) in text.iter().enumerate() {
            let start = left.partition_point(|&id| vocab.bytes(id).get(i).is_none_or(|&b| b < byte));
            let end = left.partition_point(|&id| vocab.bytes(id).get(i).is_none_or(|&b| b <= byte));
            left = &left[start..end];
            if left.is_empty() {
                break;
            }
            // Tokens that end here sort before those that go on; equal ones sort by id.
            let whole = left.iter().take_while(|&&id| vocab.bytes(id).len() == i + 1).find(|&&id| allow(id));
            best = whole.map(|&id| (id, i + 1)).or(best);
        }
        best
    }
}
