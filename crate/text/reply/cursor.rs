//! A place in a text of which more may come.

/// Why nothing could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It depends on text that is still to come. Of a finished text: it breaks off.
    More,
    /// It is something else.
    No,
}

pub(super) type Scan<T> = Result<T, Stop>;

/// What is read never depends on where the text that is there ends: a cursor asks for more where it could.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    last: bool,
}

impl<'t> Cursor<'t> {
    /// `last`: no more text comes.
    pub(super) fn new(text: &'t str, last: bool) -> Self {
        Self { text, at: 0, last }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// Whether no more text comes.
    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    /// The next character, which stays there. `None` at the end of a finished text.
    pub(super) fn peek(&self) -> Scan<Option<char>> {
        match self.rest().chars().next() {
            None if !self.last => Err(Stop::More),
            next => Ok(next),
        }
    }

    /// The next character, where a text must not end.
    pub(super) fn char(&self) -> Scan<char> {
        self.peek()?.ok_or(Stop::More)
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub(super) fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Whether the text goes on with this.
    pub(super) fn starts(&self, with: &str) -> Scan<bool> {
        let rest = self.rest();
        match rest.starts_with(with) {
            false if !self.last && with.starts_with(rest) => Err(Stop::More),
            starts => Ok(starts),
        }
    }

    /// Reads this, if the text goes on with it.
    pub(super) fn eat(&mut self, with: &str) -> Scan<bool> {
        let starts = self.starts(with)?;
        self.at += if starts { with.len() } else { 0 };
        Ok(starts)
    }

    /// Reads this, which must be there.
    pub(super) fn need(&mut self, with: &str) -> Scan<()> {
        if self.eat(with)? { Ok(()) } else { Err(Stop::No) }
    }

    /// Reads up to the first character that stops, which is left, or up to the end of a finished text. More than `most`
    /// bytes are something else.
    pub(super) fn until(&mut self, most: usize, stops: impl Fn(char) -> bool) -> Scan<&'t str> {
        let rest = self.rest();
        let end = match rest.find(stops) {
            Some(end) => end,
            None if self.last || rest.len() > most => rest.len(),
            None => return Err(Stop::More),
        };
        if end > most {
            return Err(Stop::No);
        }
        self.at += end;
        Ok(&rest[..end])
    }
}
