//! The parts of a model's answer: what it thinks, what it says, and which tools it calls.
//!
//! [`ReplyFormat`] is found once for a model, from its chat template and its vocabulary. [`ReplyParser`] reads one answer
//! while it comes. How the text is cut makes no difference, and what cannot be read as a call is content: nothing is
//! lost. It reads
//!
//! * JSON in tags (Qwen 2.5 and 3, Hermes), behind `<|python_tag|>` or `[TOOL_CALLS]`, in a fenced block, or alone;
//! * parameters in tags (Qwen3-Coder, Qwen3.5), whose values become JSON by the schema of the tool;
//! * calls in Python (LFM2, Llama 3.2, Gemma 3);
//! * a name before its arguments (Mistral, DeepSeek, Gemma 4).
//!
//! Without a marker a text is a call only where it names one of the request's tools. Names are free otherwise, and
//! nothing checks arguments against a schema: a call that lacks a parameter is still one.
//!
//! ```
//! use pagelm::gguf::Gguf;
//! use pagelm::text::{ChatTemplate, ReplyFormat, ReplyParser, ReplyPart, Tokenizer, ToolSpec};
//!
//! let template = ChatTemplate::new("<think></think><tool_call></tool_call>{{ messages }}")?;
//! let gguf = Gguf::parse(&std::fs::read("tests/golden/qwen3.gguf")?)?;
//! let format = ReplyFormat::new(&template, &Tokenizer::from_gguf(&gguf.meta)?);
//! let tools = ToolSpec::list(&serde_json::json!([{ "name": "add", "parameters": null }]))?;
//!
//! let mut parser = ReplyParser::new(&format, &tools, "<|im_start|>assistant\n<think>\n");
//! let mut parts = parser.push("A sum.</think>\n\nI add.\n<tool_call>\n{\"name\": \"add\", \"argum");
//! parts.extend(parser.push("ents\": {\"a\": 1}}\n</tool_call>"));
//! parts.extend(parser.finish());
//! assert_eq!(parts, [
//!     ReplyPart::Reasoning("A sum.".into()),
//!     ReplyPart::Content("I add.".into()),
//!     ReplyPart::ToolCall { index: 0, name: "add".into() },
//!     ReplyPart::ToolArguments { index: 0, delta: "{\"a\":1}".into() },
//! ]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cursor;
mod format;
mod head;
mod parts;
mod quote;
mod style;
mod tools;
mod value;
mod xml;

use cursor::{Cursor, Scan, Stop};
pub(crate) use format::ReasoningBlock;
pub use format::ReplyFormat;
use format::Start;
use head::{Around, BARE, Body, FENCE, HELD, Head, Opener, Tail, head, held, window};
use parts::Parts;
pub use parts::ReplyPart;
pub(crate) use style::{CallShape, CallStyle};
pub use tools::ToolSpec;
use tools::Tools;

/// The JSON that a text was meant to be, with what breaks off in it completed.
pub(super) fn repaired(text: &str) -> Option<String> {
    value::whole(text, true)
}

#[derive(Debug)]
enum State {
    Text,
    /// What may be a call.
    Head(Opener),
    /// The arguments of the last call.
    Body(Body, Around),
    /// After them.
    Tail(Around),
}

/// What a marker in a text means.
enum Mark {
    Open,
    Close,
    Call(Opener),
    /// What closes a call that is over already.
    Stray,
}

/// Where a call may stand that has no marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bare {
    Nowhere,
    /// At the start of any line, as a grammar lets them be.
    Held,
    /// At the start of any line, as models write them.
    Lines,
}

/// Reads one answer.
#[derive(Debug)]
pub struct ReplyParser {
    reasoning: Option<(&'static str, &'static str)>,
    openers: Vec<Opener>,
    /// Where calls without a marker, or in a fenced block, may stand.
    bare: Bare,
    tools: Tools,
    /// Text that is not read yet.
    text: String,
    state: State,
    parts: Parts,
    /// Inside of a block of reasoning.
    is_inside: bool,
    /// A block of reasoning is over: what looks like its end from now on is text.
    is_over: bool,
    calls: usize,
    /// The marker that would have closed the calls before this text.
    stray: &'static str,
    /// The text is looked at again when it is so long, so that it is not looked at too often.
    wanted: usize,
}

impl ReplyParser {
    /// `prompt_end`: the last part of the prompt's text, with its markers, from anywhere before the answer's turn. It says
    /// whether the answer starts inside of a block of reasoning. Without tools nothing is a call.
    pub fn new(format: &ReplyFormat, tools: &[ToolSpec], prompt_end: &str) -> Self {
        let Start { is_inside, is_closed, is_fresh } = format.start(prompt_end);
        Self {
            reasoning: format.reasoning,
            openers: if tools.is_empty() { Vec::new() } else { format.openers.clone() },
            bare: Bare::Lines,
            tools: Tools(tools.to_vec()),
            text: String::new(),
            state: State::Text,
            parts: Parts::new((is_inside || is_closed) && is_fresh, is_fresh),
            is_inside,
            is_over: is_closed || !format.is_written,
            calls: 0,
            stray: "",
            wanted: 0,
        }
    }

    /// The same where a grammar says what a call is: only what stands where that lets calls be is one. `after_text`: they
    /// may come after text, and without a marker there too.
    pub(crate) fn by_grammar(mut self, format: &ReplyFormat, after_text: bool) -> Self {
        let unmarked = format.style.unmarked().filter(|_| after_text);
        let openers = [Some(format.style), unmarked].into_iter().flatten().filter_map(|style| style.opener());
        self.openers = openers.collect();
        let is_json = matches!(format.style.shape, CallShape::Json(_));
        let is_held = is_json && (after_text || format.style.marker.is_empty());
        self.bare = if is_held { Bare::Held } else { Bare::Nowhere };
        self
    }

    /// Whether the text that was read ends inside of a block of reasoning.
    pub fn is_reasoning(&self) -> bool {
        self.is_inside
    }

    /// Takes the next text of the answer and gives the parts that are certain now.
    pub fn push(&mut self, text: &str) -> Vec<ReplyPart> {
        self.text.push_str(text);
        self.run(false);
        self.parts.take()
    }

    /// The rest, when no more text comes.
    pub fn finish(&mut self) -> Vec<ReplyPart> {
        self.run(true);
        if let State::Body(body, _) = &mut self.state
            && body.is_between()
        {
            let mut json = String::new();
            body.shut(&mut json);
            self.parts.arguments(self.calls - 1, &json);
        }
        self.state = State::Text;
        self.parts.finish(self.is_inside);
        self.parts.take()
    }

    fn run(&mut self, last: bool) {
        let mut text = std::mem::take(&mut self.text);
        let mut at = 0;
        // A step that takes nothing has gone on to another state.
        while text.len() - at >= self.wanted || last {
            self.wanted = 0;
            let (taken, goes_on) = match std::mem::replace(&mut self.state, State::Text) {
                State::Text => self.text(&text[at..], last),
                State::Head(opener) => self.head(&text[at..], last, opener),
                State::Body(body, around) => self.body(&text[at..], last, body, around),
                State::Tail(around) => self.tail(&text[at..], last, around),
            };
            at += taken;
            if !goes_on {
                break;
            }
        }
        text.drain(..at);
        self.text = text;
    }

    /// Reads text up to the next marker.
    fn text(&mut self, text: &str, last: bool) -> (usize, bool) {
        let mut from = 0;
        for (at, _) in text.match_indices(['<', '[', '{', '`']) {
            self.parts.text(self.is_inside, &text[from..at]);
            from = at;
            let c = Cursor::new(&text[at..], last);
            match self.mark(&c) {
                Err(Stop::No) => {}
                Err(Stop::More) => return (at, false),
                Ok((mark, len)) => {
                    self.apply(mark);
                    return (at + len, true);
                }
            }
        }
        self.parts.text(self.is_inside, &text[from..]);
        (text.len(), false)
    }

    /// The marker that the text starts with, and how many bytes of it are done with.
    fn mark(&self, c: &Cursor) -> Scan<(Mark, usize)> {
        if let Some((open, close)) = self.reasoning {
            if self.parts.is_blank && c.starts(open)? {
                return Ok((Mark::Open, open.len()));
            }
            if (self.is_inside || !self.is_over || self.parts.is_blank) && c.starts(close)? {
                return Ok((Mark::Close, close.len()));
            }
        }
        if !self.stray.is_empty() && c.starts(self.stray)? {
            return Ok((Mark::Stray, self.stray.len()));
        }
        for opener in self.openers.iter().filter(|_| self.bare == Bare::Lines || !self.is_inside) {
            if c.starts(opener.open)? {
                return Ok((Mark::Call(*opener), 0));
            }
        }
        if self.tools.0.is_empty() || self.is_inside || self.bare == Bare::Nowhere || !self.parts.is_new_line {
            return Err(Stop::No);
        }
        if self.bare == Bare::Held {
            return held(*c, &self.tools).map(|()| (Mark::Call(HELD), 0));
        }
        let opener = match c.char()? {
            '{' | '[' => BARE,
            '`' if c.starts(FENCE.open)? => FENCE,
            _ => return Err(Stop::No),
        };
        Ok((Mark::Call(opener), 0))
    }

    fn apply(&mut self, mark: Mark) {
        match mark {
            Mark::Open => {
                self.is_inside = true;
                self.parts.cut();
            }
            Mark::Close => {
                (self.is_inside, self.is_over) = (false, true);
                self.parts.cut();
            }
            Mark::Call(opener) => self.state = State::Head(opener),
            Mark::Stray => {
                self.stray = "";
                self.parts.cut();
            }
        }
    }

    fn head(&mut self, text: &str, last: bool, opener: Opener) -> (usize, bool) {
        let skip = if opener.is_part { 0 } else { opener.open.len() };
        let (mut c, is_all) = window(&text[skip..], last);
        // Reasoning is about calls more often than it makes one.
        let strict = Opener { is_strict: opener.is_strict || self.is_inside, ..opener };
        match head(&mut c, &self.tools, strict) {
            Ok(head) => {
                self.call(head, opener);
                (skip + c.at(), true)
            }
            Err(Stop::More) if !last && !is_all => {
                self.state = State::Head(opener);
                // Small enough to be looked at for each token, large enough to be linear.
                self.wanted = if text.len() > 1024 { text.len() + text.len() / 4 } else { 0 };
                (0, false)
            }
            stopped => {
                if stopped.is_err_and(|stop| stop == Stop::More) {
                    c.skip(c.rest().len());
                }
                let taken = skip + c.at();
                let first = text.chars().next().map_or(0, char::len_utf8);
                let taken = taken.max(first);
                self.parts.text(self.is_inside, &text[..taken]);
                (taken, true)
            }
        }
    }

    /// A call starts.
    fn call(&mut self, head: Head, opener: Opener) {
        let Head { name, mut body, objects, in_list } = head;
        let index = self.calls;
        self.calls += 1;
        self.stray = "";
        self.parts.call(index, name);
        self.parts.arguments(index, &body.start());
        self.state = State::Body(body, Around { opener, objects, in_list });
    }

    fn body(&mut self, text: &str, last: bool, mut body: Body, around: Around) -> (usize, bool) {
        let (mut c, mut json) = (Cursor::new(text, last), String::new());
        let done = body.read(&mut c, &self.tools, &mut json);
        if done == Err(Stop::No) {
            body.shut(&mut json);
        }
        self.parts.arguments(self.calls - 1, &json);
        self.state = match done {
            Ok(()) => State::Tail(around),
            Err(Stop::More) => State::Body(body, around),
            Err(Stop::No) => {
                self.over(around.opener.close);
                State::Text
            }
        };
        (c.at(), done != Err(Stop::More))
    }

    fn tail(&mut self, text: &str, last: bool, mut around: Around) -> (usize, bool) {
        let mut c = Cursor::new(text, last);
        let strict = Opener { is_strict: around.opener.is_strict || self.is_inside, ..around.opener };
        let opener = std::mem::replace(&mut around.opener, strict);
        let tail = around.tail(&mut c, &self.tools);
        around.opener = opener;
        match tail {
            Ok(Tail::Next(head)) => self.call(head, opener),
            Ok(Tail::End { closed }) => self.over(if closed { "" } else { opener.close }),
            Err(_) => {
                self.state = State::Tail(around);
                let held = text.len() - c.at();
                self.wanted = if held > 1024 { held + held / 4 } else { 0 };
                return (c.at(), false);
            }
        }
        (c.at(), true)
    }

    /// The calls are over, but for a marker that may still come.
    fn over(&mut self, stray: &'static str) {
        // A later fence is more likely one of the text.
        self.stray = if stray == FENCE.close { "" } else { stray };
        self.parts.cut();
    }
}
