//! The vocabulary of a GGUF file: the bytes and the kind of each token, and the ids with a role.

use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Array, Meta, Strings};

/// More tokens than any model has; a file with more is broken.
pub(super) const MAX_TOKENS: usize = 1 << 22;

/// Names of control tokens that end a generation though no key of the file says so: the union over the families' chat
/// formats, and the fill-in-the-middle padding, repository and file separators that code models put after their answer.
/// A token of another type with such a name is text: Gemma 3 writes `</s>` to end struck-out HTML.
const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<eos>",
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<reponame>",
    "<|file_sep|>",
];

/// What a token is, as numbered in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

pub(super) struct Vocab {
    /// What each token stands for in a text; for control tokens their name.
    bytes: Strings,
    kinds: Vec<Kind>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unknown: Option<u32>,
    /// Sorted; every id at which a generation stops.
    ends: Vec<u32>,
}

/// The tokens as the file spells them.
pub(super) fn raw_tokens(meta: &Meta) -> Result<&Strings> {
    let Some(tokens) = meta.opt_strings("tokenizer.ggml.tokens")? else {
        let detail = "is not in the file; a model without its vocabulary cannot read text";
        return Err(Error::new(ErrorKind::BadTokenizer, detail).at("key `tokenizer.ggml.tokens`"));
    };
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        bail!(BadTokenizer, "the vocabulary must have 1 to {MAX_TOKENS} tokens, has {}", tokens.len());
    }
    Ok(tokens)
}

impl Vocab {
    /// `decode` appends what a token of this kind and spelling stands for.
    pub(super) fn from_meta(meta: &Meta, decode: impl Fn(Kind, &[u8], &mut Vec<u8>) -> Result<()>) -> Result<Vocab> {
        let raw = raw_tokens(meta)?;
        let kinds = kinds(meta, raw.len())?;
        let mut bytes = Strings::default();
        let mut piece = Vec::new();
        for (id, (token, &kind)) in raw.iter().zip(&kinds).enumerate() {
            piece.clear();
            decode(kind, token, &mut piece).map_err(|e| e.at(format!("token {id}")))?;
            bytes.push(&piece);
        }
        let role = |name: &str| role(meta, name, raw.len());
        let mut vocab = Vocab {
            bytes,
            kinds,
            bos: role("bos_token_id")?,
            eos: role("eos_token_id")?,
            unknown: role("unknown_token_id")?,
            ends: Vec::new(),
        };
        let named = |id: &u32| vocab.is_control(*id) && END_NAMES.iter().any(|n| n.as_bytes() == vocab.bytes(*id));
        vocab.ends = (0..raw.len() as u32).filter(named).collect();
        let keys = [vocab.eos, role("eot_token_id")?, role("eom_token_id")?];
        vocab.ends.extend(keys.into_iter().flatten());
        vocab.ends.sort_unstable();
        vocab.ends.dedup();
        Ok(vocab)
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn strings(&self) -> &Strings {
        &self.bytes
    }

    /// What a token stands for; empty where there is no such token.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).unwrap_or_default()
    }

    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// Control tokens and the unknown token: hidden from a reader and recognised in a text only on demand.
    pub(super) fn is_control(&self, id: u32) -> bool {
        matches!(self.kind(id), Some(Kind::Control | Kind::Unknown))
    }

    pub(super) fn is_user_defined(&self, id: u32) -> bool {
        self.kind(id) == Some(Kind::UserDefined)
    }

    /// Tokens that structure a text: control tokens, and user-defined ones such as `<tool_call>`. User-defined words and
    /// runs of white space are text like any other.
    pub(super) fn is_marker(&self, id: u32) -> bool {
        let text = || String::from_utf8_lossy(self.bytes(id));
        self.is_control(id)
            || (self.is_user_defined(id) && text().contains(|c: char| !c.is_alphanumeric() && !is_space(c)))
    }

    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }
}

/// White space, and U+2581, which SentencePiece takes for a space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || c == '\u{2581}'
}

fn kinds(meta: &Meta, len: usize) -> Result<Vec<Kind>> {
    let key = "tokenizer.ggml.token_type";
    let parse = |n: i64| match n {
        1 => Ok(Kind::Normal),
        2 => Ok(Kind::Unknown),
        3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        5 => Ok(Kind::Unused),
        6 => Ok(Kind::Byte),
        _ => Err(Error::new(ErrorKind::BadTokenizer, format!("unknown token type {n}; expected 1 to 6"))
            .at(format!("key `{key}`"))),
    };
    let kinds: Vec<Kind> = match meta.opt_array(key)? {
        None => vec![Kind::Normal; len],
        Some(Array::Int(v)) => v.iter().map(|&n| parse(n)).collect::<Result<_>>()?,
        Some(Array::Uint(v)) => v.iter().map(|&n| parse(i64::try_from(n).unwrap_or(-1))).collect::<Result<_>>()?,
        Some(_) => {
            return Err(Error::new(ErrorKind::WrongKeyType, "must be an array of integers").at(format!("key `{key}`")));
        }
    };
    same_len(key, kinds.len(), len)?;
    Ok(kinds)
}

/// Refuses an array that does not have one element for each token.
pub(super) fn same_len(key: &str, have: usize, tokens: usize) -> Result<()> {
    if have != tokens {
        bail!(BadTokenizer, "`{key}` must have {tokens} elements, one per token, has {have}");
    }
    Ok(())
}

/// Refuses tokens that were chosen to make building a table slow.
pub(super) fn too_many(id: u32) -> Result<()> {
    bail!(BadTokenizer, "token {id} collides with too many others")
}

fn role(meta: &Meta, name: &str, len: usize) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}");
    // Converters write -1 and its unsigned twin for "none".
    if let Some(crate::gguf::Value::Int(-1) | crate::gguf::Value::Uint(0xFFFF_FFFF)) = meta.get(&key) {
        return Ok(None);
    }
    match meta.opt_u32(&key)? {
        Some(id) if id as usize >= len => {
            bail!(BadTokenizer, "`{key}` must be below the {len} tokens of the vocabulary, is {id}")
        }
        id => Ok(id),
    }
}
