//! How likely tokens were, in the shapes of chat completions and of completions.

use serde_json::{Map, Value, json};

use crate::backend::Logprobs;
use crate::text::Tokenizer;

/// OpenAI's number for what is less likely than it says.
const LEAST: f32 = -9999.0;

/// A token with how likely it and others were.
pub(super) struct Said {
    token: Token,
    top: Vec<Token>,
}

struct Token {
    bytes: Vec<u8>,
    logprob: f32,
}

impl Token {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Said {
    pub(super) fn new(tokenizer: &Tokenizer, id: u32, logprobs: &Logprobs) -> Self {
        let token = |id: u32, logprob: f32| Token {
            bytes: tokenizer.piece(id, true).unwrap_or_default().to_vec(),
            logprob: logprob.max(LEAST),
        };
        Self {
            token: token(id, logprobs.logprob),
            top: logprobs.top.iter().map(|(id, logprob)| token(*id, *logprob)).collect(),
        }
    }

    /// An entry of `logprobs.content`.
    pub(super) fn entry(&self) -> Value {
        let one = |t: &Token| json!({ "token": t.text(), "logprob": t.logprob, "bytes": t.bytes });
        let mut entry = one(&self.token);
        entry["top_logprobs"] = self.top.iter().map(one).collect();
        entry
    }
}

/// `logprobs` of a completion: lists with an element for each token.
#[derive(Default)]
pub(super) struct Lists {
    tokens: Vec<Value>,
    logprobs: Vec<Value>,
    top: Vec<Value>,
    offsets: Vec<Value>,
    /// Characters that started before the next token.
    offset: usize,
}

impl Lists {
    /// Adds a token.
    pub(super) fn add(&mut self, said: &Said) {
        self.tokens.push(said.token.text().into());
        self.logprobs.push(json!(said.token.logprob));
        // Names of tokens that are parts of characters look alike: the likeliest has it.
        let mut top = Map::new();
        for t in &said.top {
            top.entry(t.text()).or_insert(json!(t.logprob));
        }
        self.top.push(top.into());
        self.offsets.push(self.offset.into());
        // Bytes that continue a character start with the bits 10.
        self.offset += said.token.bytes.iter().filter(|b| **b & 0xC0 != 0x80).count();
    }

    /// What was added since the last time.
    pub(super) fn take(&mut self) -> Value {
        let [tokens, logprobs, top, offsets] =
            [&mut self.tokens, &mut self.logprobs, &mut self.top, &mut self.offsets].map(std::mem::take);
        json!({ "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets })
    }
}
