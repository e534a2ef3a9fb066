//! The parts of an answer, and the white space between them.

/// White space that waits for what follows it.
const MAX_SPACES: usize = 4096;

/// A part of an answer, or the next piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyPart {
    /// What the model thinks before it answers.
    Reasoning(String),
    /// What it says.
    Content(String),
    /// A call starts. Calls are numbered from 0; an id is for the host to make.
    ToolCall {
        /// The number of the call.
        index: usize,
        /// The name of the tool, as the request has it.
        name: String,
    },
    /// The next piece of the JSON text of a call's arguments. Where the answer breaks off inside of them, they stay
    /// incomplete, so that nobody takes them for whole.
    ToolArguments {
        /// The number of the call.
        index: usize,
        /// What is appended.
        delta: String,
    },
}

/// Whether a text is white space of a line's start.
fn is_space(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'))
}

/// Collects parts. White space around a marker belongs to none of them, but texts of one kind that were apart do not run
/// into each other.
#[derive(Debug)]
pub(super) struct Parts {
    parts: Vec<ReplyPart>,
    /// White space after a text, which may be the end of its part.
    spaces: String,
    /// No text came since the last marker, so that white space is left out.
    skips: bool,
    /// Whether there was content, and whether there was reasoning.
    said: [bool; 2],
    /// No text came since the last marker.
    pub(super) is_blank: bool,
    /// Nothing but white space came since the last line break.
    pub(super) is_new_line: bool,
    is_empty: bool,
}

impl Parts {
    /// `skips`: a marker is before the answer. `is_fresh`: no text of the answer is.
    pub(super) fn new(skips: bool, is_fresh: bool) -> Self {
        let (parts, spaces) = (Vec::new(), String::new());
        Self { parts, spaces, skips, said: [false; 2], is_blank: is_fresh, is_new_line: is_fresh, is_empty: true }
    }

    pub(super) fn text(&mut self, is_reasoning: bool, text: &str) {
        self.is_new_line = match text.rfind('\n') {
            Some(at) => is_space(&text[at..]),
            None => self.is_new_line && is_space(text),
        };
        let text = if self.skips { text.trim_start() } else { text };
        if text.is_empty() {
            return;
        }
        if std::mem::take(&mut self.skips) && self.said[usize::from(is_reasoning)] {
            self.push(is_reasoning, "\n");
        }
        let said = text.trim_end();
        if !said.is_empty() {
            self.is_blank = false;
            self.said[usize::from(is_reasoning)] = true;
            let spaces = std::mem::take(&mut self.spaces);
            self.push(is_reasoning, &spaces);
            self.push(is_reasoning, said);
        }
        self.spaces.push_str(&text[said.len()..]);
        if self.spaces.len() > MAX_SPACES {
            let mut cut = self.spaces.len() - MAX_SPACES;
            while !self.spaces.is_char_boundary(cut) {
                cut += 1;
            }
            let rest = self.spaces.split_off(cut);
            let sure = std::mem::replace(&mut self.spaces, rest);
            self.push(is_reasoning, &sure);
        }
    }

    /// What came before and what comes after are parts of different kinds.
    pub(super) fn cut(&mut self) {
        self.spaces.clear();
        (self.skips, self.is_blank, self.is_new_line) = (true, true, true);
    }

    pub(super) fn call(&mut self, index: usize, name: String) {
        self.cut();
        self.is_empty = false;
        self.parts.push(ReplyPart::ToolCall { index, name });
    }

    pub(super) fn arguments(&mut self, index: usize, json: &str) {
        match self.parts.last_mut() {
            _ if json.is_empty() => {}
            Some(ReplyPart::ToolArguments { index: last, delta }) if *last == index => delta.push_str(json),
            _ => self.parts.push(ReplyPart::ToolArguments { index, delta: json.to_owned() }),
        }
    }

    /// The white space at the end of a finished answer.
    pub(super) fn finish(&mut self, is_reasoning: bool) {
        let spaces = std::mem::take(&mut self.spaces);
        if !is_reasoning && (!self.is_blank || self.is_empty) {
            self.push(false, &spaces);
        }
    }

    pub(super) fn take(&mut self) -> Vec<ReplyPart> {
        std::mem::take(&mut self.parts)
    }

    fn push(&mut self, is_reasoning: bool, text: &str) {
        if text.is_empty() {
            return;
        }
        self.is_empty = false;
        match (self.parts.last_mut(), is_reasoning) {
            (Some(ReplyPart::Reasoning(last)), true) | (Some(ReplyPart::Content(last)), false) => last.push_str(text),
            (_, true) => self.parts.push(ReplyPart::Reasoning(text.to_owned())),
            (_, false) => self.parts.push(ReplyPart::Content(text.to_owned())),
        }
    }
}
