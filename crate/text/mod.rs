//! Text in and out of a model: the tokenizer and the vocabulary of a GGUF file, streamed output, chat templates.
//!
//! The tokenizer gives the ids that llama.cpp gives for the same file, except where the family's own tokenizer is known
//! to disagree with it; there the family's own is followed:
//!
//! * `qwen2` and `qwen35` bring text into NFC first.
//! * A token whose name looks special (`</s>`, `<eos>`) but which the file calls normal or user-defined is not hidden, and
//!   ends a generation only where a key of the file says so.
//! * SentencePiece: the space prefix is put at the start of a text and after a control token, not after a user-defined
//!   one; and user-defined runs of spaces are found in a literal U+2581, which SentencePiece takes for a space.

mod bpe;
mod chat;
mod hf;
mod index;
mod merges;
mod messages;
pub mod reply;
mod shadow;
mod special;
mod spm;
pub mod stream;
pub mod template;
mod tokenizer;
mod vocab;

pub use chat::{chat_prompt, chat_text, chat_variables};
pub use hf::{TokenizerFiles, tokenizer_from_hf};
pub use messages::chat_messages;
pub(crate) use reply::{CallShape, CallStyle, ReasoningBlock};
pub use reply::{ReplyFormat, ReplyParser, ReplyPart, ToolSpec};
pub use stream::{StopStrings, TextStream};
pub use template::{ChatTemplate, RenderOptions};
pub use tokenizer::{EncodeOptions, Tokenizer};
