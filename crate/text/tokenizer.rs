//! Text to token ids and back.

use std::sync::Arc;

use serde::Deserialize;

use super::bpe::{self, Bpe};
use super::shadow::{Markers, Shadows};
use super::special::{Fragment, Matcher};
use super::spm::{self, Spm};
use super::vocab::Vocab;
use crate::bail;
use crate::error::Result;
use crate::gguf::Meta;

/// What [`Tokenizer::encode`] adds and recognises. By default nothing: text is text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EncodeOptions {
    /// Put the special tokens around the text that the model wants there (BOS, rarely EOS).
    pub add_special: bool,
    /// Recognise control tokens inside the text. Never turn this on for text of a user.
    pub parse_special: bool,
}

enum Algorithm {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
    /// The model runs on ids only.
    None,
}

/// Text to ids and back, by the vocabulary of a GGUF file or a checkpoint. A clone shares the vocabulary.
#[derive(Clone)]
pub struct Tokenizer {
    vocab: Arc<Vocab>,
    matcher: Arc<Matcher>,
    markers: Arc<Markers>,
    algorithm: Arc<Algorithm>,
    add_bos: bool,
    add_eos: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF header describes.
    pub fn from_gguf(meta: &Meta) -> Result<Tokenizer> {
        let (vocab, algorithm, add_bos) = match meta.opt_string("tokenizer.ggml.model")? {
            Some("gpt2") => {
                let vocab = Vocab::from_meta(meta, bpe::decode)?;
                let bpe = Bpe::new(meta, &vocab)?;
                let add_bos = bpe.add_bos;
                (vocab, Algorithm::Bpe(Box::new(bpe)), add_bos)
            }
            Some("llama") => {
                let vocab = Vocab::from_meta(meta, spm::decode)?;
                let spm = Spm::new(meta, &vocab)?;
                (vocab, Algorithm::Spm(Box::new(spm)), true)
            }
            Some("none") => (Vocab::from_meta(meta, |_, _, _| Ok(()))?, Algorithm::None, false),
            Some(other) => bail!(BadTokenizer, "unknown tokenizer model `{other}`; expected `gpt2` or `llama`"),
            None => bail!(BadTokenizer, "the file has no `tokenizer.ggml.model`; is it complete?"),
        };
        Ok(Tokenizer {
            matcher: Arc::new(Matcher::new(&vocab)),
            markers: Arc::new(Markers::new(&vocab)),
            add_bos: meta.opt_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos),
            add_eos: meta.opt_bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            vocab: Arc::new(vocab),
            algorithm: Arc::new(algorithm),
        })
    }

    /// What must not come from text of a user.
    pub(super) fn markers(&self) -> &Arc<Markers> {
        &self.markers
    }

    /// The ids of a text. Fails where the vocabulary cannot spell it (`bad-tokenizer`).
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        self.encode_shadowed(text, options, &Shadows::default())
    }

    /// Encodes text with shadows in it: no marker is found where they are, and the rest reads as if they were not there.
    pub(super) fn encode_shadowed(&self, text: &str, options: EncodeOptions, shadows: &Shadows) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if options.add_special && self.add_bos {
            ids.extend(self.vocab.bos);
        }
        match &*self.algorithm {
            Algorithm::Bpe(bpe) => {
                let allow = |id| options.parse_special || self.vocab.is_user_defined(id);
                for fragment in self.matcher.split(&self.vocab, text, allow) {
                    match fragment {
                        Fragment::Token(id) => ids.push(id),
                        Fragment::Text(text) => bpe.encode(&shadows.plain(text), &mut ids)?,
                    }
                }
            }
            Algorithm::None => {
                bail!(BadTokenizer, "the model has no supported tokenizer; give token ids instead")
            }
            Algorithm::Spm(spm) => {
                self.encode_spm((spm, spm.space_prefix), text, options.parse_special, shadows, &mut ids)?;
            }
        }
        if options.add_special && self.add_eos {
            ids.extend(self.vocab.eos);
        }
        Ok(ids)
    }

    /// The ids of a text that goes on from another one: without the space that some vocabularies put before a text.
    pub fn encode_more(&self, text: &str) -> Result<Vec<u32>> {
        let Algorithm::Spm(spm) = &*self.algorithm else { return self.encode(text, EncodeOptions::default()) };
        let mut ids = Vec::new();
        self.encode_spm((spm, false), text, false, &Shadows::default(), &mut ids)?;
        Ok(ids)
    }

    /// Control tokens cut the text as it is; between them SentencePiece sees no difference between a space and U+2581.
    fn encode_spm(
        &self,
        (spm, space_prefix): (&Spm, bool),
        text: &str,
        parse_special: bool,
        shadows: &Shadows,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let control = |id| parse_special && self.vocab.is_control(id);
        for fragment in self.matcher.split(&self.vocab, text, control) {
            let text = match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    continue;
                }
                Fragment::Text(text) => text,
            };
            let text = if space_prefix { Spm::unmark(&format!(" {text}")) } else { Spm::unmark(text) };
            for fragment in self.matcher.split(&self.vocab, &text, |id| self.vocab.is_user_defined(id)) {
                match fragment {
                    Fragment::Token(id) => ids.push(id),
                    Fragment::Text(text) => spm.encode(&self.vocab, &shadows.plain(text), ids)?,
                }
            }
        }
        Ok(())
    }

    /// The bytes that a token adds to a text, or `None` where there is no such token. They need not be UTF-8.
    ///
    /// Control tokens are their name with `show_special`, and nothing without.
    pub fn piece(&self, id: u32, show_special: bool) -> Option<&[u8]> {
        self.vocab.kind(id)?;
        Some(if self.vocab.is_control(id) && !show_special { &[] } else { self.vocab.bytes(id) })
    }

    /// The bytes of a sequence. Ids outside the vocabulary add nothing.
    pub fn decode(&self, ids: &[u32], show_special: bool) -> Vec<u8> {
        ids.iter().filter_map(|&id| self.piece(id, show_special)).flatten().copied().collect()
    }

    /// Whether a token is none of the text: `decode` leaves it out unless it is asked to show them.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.is_control(id)
    }

    /// The text, cut at the names of control tokens.
    pub(super) fn control_tokens<'t>(&self, text: &'t str) -> Vec<Fragment<'t>> {
        self.matcher.split(&self.vocab, text, |id| self.vocab.is_control(id))
    }

    /// The control or user-defined token of this name.
    pub(crate) fn marker(&self, name: &str) -> Option<u32> {
        match self.matcher.split(&self.vocab, name, |_| true)[..] {
            [Fragment::Token(id)] => Some(id),
            _ => None,
        }
    }

    /// The names of all control tokens.
    pub(super) fn control_names(&self) -> impl Iterator<Item = &str> {
        let ids = (0..self.vocab.len() as u32).filter(|&id| self.vocab.is_control(id));
        ids.filter_map(|id| std::str::from_utf8(self.vocab.bytes(id)).ok())
    }

    /// Tokens of the vocabulary; a model may have more columns of logits.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The id of the BOS token, whether or not [`Self::encode`] adds it.
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// The id of the EOS token; a model may end its answers with others too.
    pub fn eos(&self) -> Option<u32> {
        self.vocab.eos
    }

    /// Whether `encode` with `add_special` puts BOS in front.
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.vocab.bos.is_some()
    }

    /// Whether `encode` with `add_special` puts EOS at the end.
    pub fn adds_eos(&self) -> bool {
        self.add_eos && self.vocab.eos.is_some()
    }

    /// Whether a generation stops at this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.vocab.ends().binary_search(&id).is_ok()
    }

    /// Whether both have the very same vocabulary in memory.
    pub fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.vocab, &other.vocab)
    }

    /// All tokens at which a generation stops, in ascending order.
    pub fn end_of_generation(&self) -> &[u32] {
        self.vocab.ends()
    }
}
