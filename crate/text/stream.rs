//! Streamed output: token bytes become whole characters, and text that may be the start of a stop string waits.

use super::special::Fragment;
use super::tokenizer::Tokenizer;
use crate::bail;
use crate::error::Result;

/// Strings at which a generation ends; they are not part of the output.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<Stop>,
}

/// One stop string, searched as in Knuth, Morris and Pratt: nothing is looked at twice.
#[derive(Clone, Debug)]
struct Stop {
    text: String,
    /// Its bytes; where it names a control token, in place of those [`CONTROL`] and the token.
    symbols: Vec<u32>,
    /// For each matched length, the next shorter one that is still a match.
    shorter: Vec<usize>,
    /// For each matched length, how many of the symbols are bytes: control tokens are not in the text.
    bytes: Vec<usize>,
    matched: usize,
}

/// Above all bytes: the symbol of control token 0.
const CONTROL: u32 = 256;

impl StopStrings {
    /// Stop strings for text alone.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<Self> {
        if stops.iter().any(|s| s.as_ref().is_empty()) {
            bail!(InvalidArgument, "a stop string is empty; it would end every generation at once");
        }
        let symbols = |text: &str| text.bytes().map(u32::from).collect();
        Ok(Self { stops: stops.iter().map(|s| Stop::new(s.as_ref(), symbols(s.as_ref()))).collect() })
    }

    /// Stop strings that end also at the control tokens that they name: those are tokens, not text.
    pub fn with_control<S: AsRef<str>>(stops: &[S], tokenizer: &Tokenizer) -> Result<Self> {
        let mut all = Self::new(stops)?;
        for text in stops.iter().map(AsRef::as_ref) {
            let mut symbols = Vec::new();
            for fragment in tokenizer.control_tokens(text) {
                match fragment {
                    Fragment::Text(text) => symbols.extend(text.bytes().map(u32::from)),
                    Fragment::Token(id) => symbols.push(CONTROL + id),
                }
            }
            if symbols.iter().any(|&s| s >= CONTROL) {
                all.stops.push(Stop::new(text, symbols));
            }
        }
        Ok(all)
    }

    /// Takes the next symbol. Returns the longest stop string that ends with it, and how many bytes of it are text.
    fn advance(&mut self, symbol: u32) -> Option<(&str, usize)> {
        let complete = self.stops.iter_mut().filter_map(|s| s.advance(symbol).then_some(&*s));
        complete.max_by_key(|s| s.text.len()).map(|s| (s.text.as_str(), s.bytes[s.symbols.len()]))
    }

    /// How many bytes at the end of the text may be the start of a stop string.
    fn matched(&self) -> usize {
        self.stops.iter().map(|s| s.bytes[s.matched]).max().unwrap_or(0)
    }
}

impl Stop {
    fn new(text: &str, symbols: Vec<u32>) -> Self {
        let mut shorter = vec![0; symbols.len() + 1];
        let mut k = 0;
        for i in 1..symbols.len() {
            while k > 0 && symbols[i] != symbols[k] {
                k = shorter[k];
            }
            k += usize::from(symbols[i] == symbols[k]);
            shorter[i + 1] = k;
        }
        let mut bytes = vec![0];
        bytes.extend(symbols.iter().scan(0, |n, &s| {
            *n += usize::from(s < CONTROL);
            Some(*n)
        }));
        Self { text: text.to_owned(), symbols, shorter, bytes, matched: 0 }
    }

    fn advance(&mut self, symbol: u32) -> bool {
        while self.matched > 0 && self.symbols[self.matched] != symbol {
            self.matched = self.shorter[self.matched];
        }
        self.matched += usize::from(self.symbols[self.matched] == symbol);
        self.matched == self.symbols.len()
    }
}

/// Turns the bytes of tokens into text that can be shown at once.
///
/// What comes out in total does not depend on how the bytes are cut: it is what `String::from_utf8_lossy` makes of all
/// of them, up to the stop string that is complete first (of two that end at the same place, up to the longer one).
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    stops: StopStrings,
    /// The start of a character whose end is still to come; at most three bytes.
    partial: Vec<u8>,
    /// Text that may be the start of a stop string; shorter than the longest of them.
    held: String,
    stopped_by: Option<String>,
}

impl TextStream {
    /// A stream that holds back what could become one of these.
    pub fn new(stops: StopStrings) -> Self {
        Self { stops, ..Self::default() }
    }

    /// Takes the bytes of a token and returns the text that is certain now. Nothing comes after a stop string.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped_by.is_some() {
            return String::new();
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut rest = &all[..];
        loop {
            let (valid, error) = match std::str::from_utf8(rest) {
                Ok(_) => (rest.len(), None),
                Err(e) => (e.valid_up_to(), Some(e.error_len())),
            };
            text.push_str(std::str::from_utf8(&rest[..valid]).expect("checked above"));
            rest = &rest[valid..];
            match error {
                Some(Some(bad)) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
                // The rest is the start of a character, or empty.
                Some(None) | None => break,
            }
        }
        self.partial = rest.to_vec();
        self.release(&text)
    }

    /// Takes a control token, which adds no text. Returns the text that need not wait any more.
    pub fn push_control(&mut self, id: u32) -> String {
        match self.stopped_by.is_some() {
            true => String::new(),
            false if self.stop_at(CONTROL.saturating_add(id), self.held.len()) => std::mem::take(&mut self.held),
            false => self.let_go(),
        }
    }

    /// The text that was held back, when no more tokens follow.
    pub fn finish(&mut self) -> String {
        if self.stopped_by.is_some() {
            return String::new();
        }
        let mut out = String::new();
        if !std::mem::take(&mut self.partial).is_empty() {
            out = self.release("\u{FFFD}");
        }
        out + &std::mem::take(&mut self.held)
    }

    /// The stop string that ended the stream.
    pub fn stopped_by(&self) -> Option<&str> {
        self.stopped_by.as_deref()
    }

    fn release(&mut self, text: &str) -> String {
        let before = self.held.len();
        self.held.push_str(text);
        for (i, byte) in text.bytes().enumerate() {
            if self.stop_at(u32::from(byte), before + i + 1) {
                return std::mem::take(&mut self.held);
            }
        }
        self.let_go()
    }

    /// Takes the next symbol, after `end` bytes of the text that is held. Whether that completes a stop string, which is
    /// cut off then.
    fn stop_at(&mut self, symbol: u32, end: usize) -> bool {
        let Some((stop, bytes)) = self.stops.advance(symbol) else { return false };
        self.stopped_by = Some(stop.to_owned());
        self.held.truncate(end - bytes);
        true
    }

    /// The text that cannot be the start of a stop string any more.
    fn let_go(&mut self) -> String {
        // A stop string starts with a whole character, so this is never inside one.
        let held = self.held.split_off(self.held.len() - self.stops.matched());
        std::mem::replace(&mut self.held, held)
    }
}
