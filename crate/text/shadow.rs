//! Keeps text of a user apart from the markers of a prompt.
//!
//! A marker is a token that structures a text, such as `<|im_end|>` or `<tool_call>`. Only the chat template may write
//! one. So before a template gets a text of the user, the characters that a marker starts and ends with are replaced in
//! it by private code points that occur nowhere else, their shadows. A shadow is one character and takes its place, so
//! whatever a template cuts, joins or trims, what came from the user never reads as a marker, not even in parts; and
//! what a template compares it compares by the characters behind the shadows. When the rendered text becomes tokens,
//! markers are found first and then the shadows become what they stand for.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::vocab::{Vocab, is_space};
use crate::bail;
use crate::error::Result;

/// The two planes of Unicode for private use.
const PRIVATE: [std::ops::RangeInclusive<u32>; 2] = [0xF_0000..=0xF_FFFD, 0x10_0000..=0x10_FFFD];

/// The markers of a vocabulary, by what must be replaced so that a text holds none.
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// All characters of all markers, sorted.
    alphabet: Vec<char>,
    /// Those that a marker starts or ends with, sorted.
    ends: Vec<char>,
    /// The markers that have none of these: they start and end with a letter or a space.
    words: Vec<String>,
    /// All of them, one to a line.
    all: String,
    longest: usize,
}

impl Markers {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let ids = (0..vocab.len() as u32).filter(|&id| vocab.is_marker(id));
        let texts: Vec<&str> =
            ids.filter_map(|id| std::str::from_utf8(vocab.bytes(id)).ok()).filter(|t| !t.is_empty()).collect();
        let ends: BTreeSet<char> =
            texts.iter().flat_map(|t| t.chars().next().into_iter().chain(t.chars().next_back())).collect();
        let ends: Vec<char> = ends.into_iter().filter(|&c| can_hide(c)).collect();
        let alphabet: BTreeSet<char> = texts.iter().flat_map(|t| t.chars()).collect();
        Self {
            words: texts.iter().filter(|t| !t.contains(&ends[..])).map(|&t| t.to_owned()).collect(),
            alphabet: alphabet.into_iter().collect(),
            ends,
            all: texts.join("\n"),
            longest: texts.iter().map(|t| t.len()).max().unwrap_or(0),
        }
    }
}

/// Characters that no template treats as anything but themselves: it may trim spaces, turn letters into capitals, and
/// write a quotation mark in another way.
fn can_hide(c: char) -> bool {
    !(c.is_alphanumeric() || is_space(c) || c.is_control() || matches!(c, '\'' | '"' | '\\'))
}

/// The code points that stand for characters of a user in one prompt.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadows {
    markers: Arc<Markers>,
    /// For each character of the markers' alphabet, in its order. Ascending.
    shadows: Vec<char>,
}

/// Whether a character is from the planes that shadows are taken from.
pub(super) fn is_private(c: char) -> bool {
    PRIVATE.iter().any(|plane| plane.contains(&u32::from(c)))
}

impl Shadows {
    /// `taken`: the private characters that the texts hold already.
    pub(super) fn new(markers: &Arc<Markers>, taken: &BTreeSet<char>) -> Result<Self> {
        let free = PRIVATE.into_iter().flatten().filter_map(char::from_u32).filter(|c| !taken.contains(c));
        let shadows: Vec<char> = free.take(markers.alphabet.len()).collect();
        if shadows.len() < markers.alphabet.len() {
            bail!(
                InvalidArgument,
                "the messages use {} private-use characters of Unicode; leave some of them free",
                taken.len()
            );
        }
        Ok(Self { markers: markers.clone(), shadows })
    }

    /// Whether there are none, so that all texts are what they seem.
    pub(super) fn are_off(&self) -> bool {
        self.shadows.is_empty()
    }

    fn of(&self, c: char) -> char {
        self.markers.alphabet.binary_search(&c).map_or(c, |i| self.shadows[i])
    }

    /// The character behind a shadow; others are themselves.
    pub(super) fn lift(&self, c: char) -> char {
        match is_private(c) {
            true => self.shadows.binary_search(&c).map_or(c, |i| self.markers.alphabet[i]),
            false => c,
        }
    }

    pub(super) fn are_in(&self, text: &str) -> bool {
        // All private characters of these planes start with one of two bytes, which others hardly use.
        !self.are_off()
            && text.bytes().any(|b| b >= 0xF3)
            && text.chars().any(|c| is_private(c) && self.shadows.binary_search(&c).is_ok())
    }

    /// The text with no shadows in it.
    pub(super) fn plain<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.are_in(text) {
            true => Cow::Owned(text.chars().map(|c| self.lift(c)).collect()),
            false => Cow::Borrowed(text),
        }
    }

    /// The text with shadows wherever it could be a marker or a part of one.
    pub(super) fn cast(&self, text: &str) -> String {
        let Markers { ends, words, all, longest, .. } = &*self.markers;
        let hide = |c| if ends.binary_search(&c).is_ok() { self.of(c) } else { c };
        let mut out: String = text.chars().map(hide).collect();
        for word in words {
            // Twice where they overlap.
            while out.contains(word.as_str()) {
                out = out.replace(word.as_str(), &self.cast_one(word));
            }
        }
        // A template may put such a word between the signs of a marker, as in `'<|' + role + '|>'`.
        let whole = text.trim();
        let tells = |c: char| c.is_alphanumeric() || can_hide(c);
        let part = whole.len() < *longest && whole.contains(tells) && all.contains(whole);
        if part && !self.are_in(&out) { self.cast_one(&out) } else { out }
    }

    /// The text with a shadow for one of its characters, a letter or a sign if there is one.
    fn cast_one(&self, text: &str) -> String {
        let at = text.find(|c: char| c.is_alphanumeric() || can_hide(c)).unwrap_or(0);
        text.char_indices().map(|(i, c)| if i == at { self.of(c) } else { c }).collect()
    }

    /// `plain`, which was made of `before` character by character, with shadows where `before` has them.
    pub(super) fn cast_as(&self, plain: &str, before: &str) -> String {
        if plain.chars().count() != before.chars().count() {
            return self.cast(plain);
        }
        let hide = |(c, b): (char, char)| if self.lift(b) == b { c } else { self.of(c) };
        plain.chars().zip(before.chars()).map(hide).collect()
    }
}
