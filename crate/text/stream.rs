//! Streamed output: token bytes become whole characters, and text that may be the start of a stop string waits.

use crate::bail;
use crate::error::Result;

/// Strings at which a generation ends; they are not part of the output.
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<Stop>,
}

/// One stop string, searched byte by byte as in Knuth, Morris and Pratt: no byte is looked at twice.
#[derive(Clone, Debug)]
struct Stop {
    text: String,
    /// For each matched length, the next shorter one that is still a match.
    shorter: Vec<usize>,
    matched: usize,
}

impl StopStrings {
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Result<Self> {
        if stops.iter().any(|s| s.as_ref().is_empty()) {
            bail!(InvalidArgument, "a stop string is empty; it would end every generation at once");
        }
        Ok(Self { stops: stops.iter().map(|s| Stop::new(s.as_ref())).collect() })
    }

    /// Takes the next byte of the text. Returns the longest stop string that ends with it.
    fn advance(&mut self, byte: u8) -> Option<&str> {
        let complete = self.stops.iter_mut().filter_map(|s| s.advance(byte).then_some(s.text.as_str()));
        complete.max_by_key(|s| s.len())
    }

    /// How many bytes at the end of the text may be the start of a stop string.
    fn matched(&self) -> usize {
        self.stops.iter().map(|s| s.matched).max().unwrap_or(0)
    }
}

impl Stop {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut shorter = vec![0; bytes.len() + 1];
        let mut k = 0;
        for i in 1..bytes.len() {
            while k > 0 && bytes[i] != bytes[k] {
                k = shorter[k];
            }
            k += usize::from(bytes[i] == bytes[k]);
            shorter[i + 1] = k;
        }
        Self { text: text.to_owned(), shorter, matched: 0 }
    }

    fn advance(&mut self, byte: u8) -> bool {
        let text = self.text.as_bytes();
        while self.matched > 0 && text[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        self.matched += usize::from(text[self.matched] == byte);
        self.matched == text.len()
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
        let mut buffer = std::mem::take(&mut self.held);
        let before = buffer.len();
        buffer.push_str(text);
        for (i, byte) in text.bytes().enumerate() {
            if let Some(stop) = self.stops.advance(byte) {
                buffer.truncate(before + i + 1 - stop.len());
                self.stopped_by = Some(stop.to_owned());
                return buffer;
            }
        }
        // A stop string starts with a whole character, so this is never inside one.
        self.held = buffer.split_off(buffer.len() - self.stops.matched());
        buffer
    }
}
