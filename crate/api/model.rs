//! The model that is served.

use std::sync::Arc;

use super::error::ApiError;
use super::fields::{Fields, Result};
use super::ranking;
use crate::engine::FileSampling;
use crate::error::Error;
use crate::gguf::Meta;
use crate::text::{ChatTemplate, EncodeOptions, ReplyFormat, Tokenizer};

/// Names under which requests may ask for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Any: it is copied to the answer. This one is used where a request names none.
    Any(String),
    /// These; the first is the one that answers have.
    These(Vec<String>),
}

/// OpenAI's API over one model: what requests and answers need to know of it.
pub struct Api {
    pub(super) names: Names,
    /// Since when it is served, in seconds since 1970.
    pub(super) created: u64,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) template: std::result::Result<ChatTemplate, Error>,
    /// How reasoning and calls of tools are written.
    pub(super) format: Option<ReplyFormat>,
    pub(super) sampling: FileSampling,
    /// The tokens before a prefix, a suffix and the middle that is wanted.
    pub(super) fim: Option<[u32; 3]>,
    /// Whether requests may have images.
    pub(super) images: bool,
    /// Of a model that ranks: a query with a document.
    pub(super) rank: Option<std::result::Result<ChatTemplate, Error>>,
}

/// Names of the tokens of fill-in-the-middle, for files that have no keys for them: those of Qwen and CodeGemma, then those
/// of StarCoder and Granite.
const FIM_NAMES: [[&str; 3]; 2] =
    [["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"], ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"]];

impl Api {
    /// Over the model with this header. `created` is in seconds since 1970.
    pub fn new(meta: &Meta, tokenizer: Arc<Tokenizer>, names: Names, created: u64) -> crate::Result<Self> {
        let template = ChatTemplate::from_gguf(meta);
        Ok(Self {
            names,
            created,
            format: template.as_ref().ok().map(|template| ReplyFormat::new(template, &tokenizer)),
            template,
            sampling: FileSampling::from_gguf(meta)?,
            fim: fim(meta, &tokenizer)?,
            images: false,
            rank: ranking::template(meta)?,
            tokenizer,
        })
    }

    /// Another chat template than that of the file.
    #[must_use]
    pub fn with_template(self, template: ChatTemplate) -> Self {
        let format = Some(ReplyFormat::new(&template, &self.tokenizer));
        Self { template: Ok(template), format, ..self }
    }

    /// With an encoder beside it: requests may have images, which come as [`Picture`](super::Picture)s.
    #[must_use]
    pub fn with_images(self) -> Self {
        Self { images: true, ..self }
    }

    /// The name that the model has in answers.
    pub fn name(&self) -> &str {
        match &self.names {
            Names::Any(name) => name,
            Names::These(names) => names.first().map_or("", |name| name),
        }
    }

    /// Control tokens that answers are read by.
    pub(super) fn shown(&self) -> Vec<String> {
        self.format.as_ref().map(ReplyFormat::markers).unwrap_or_default()
    }

    /// The name for the answer to a request, which may name a model.
    pub(super) fn named(&self, fields: &mut Fields<'_>) -> Result<String> {
        let asked = fields.get("model", |v| v.string())?;
        match asked {
            Some(name) => self.find(name).map(str::to_string),
            None => Ok(self.name().to_string()),
        }
    }

    /// The name for the answer to a request for a model.
    pub(super) fn find<'a>(&'a self, name: &'a str) -> Result<&'a str> {
        match &self.names {
            Names::Any(_) => Ok(name),
            Names::These(names) if names.iter().any(|n| n == name) => Ok(self.name()),
            Names::These(_) => {
                let message = format!("there is no model `{name}` here; `{}` is served", self.name());
                Err(ApiError::new(404, Some("model_not_found"), message).about("model"))
            }
        }
    }
}

/// The tokens that mark prefix, suffix and middle, by the keys of the file or by their names.
fn fim(meta: &Meta, tokenizer: &Tokenizer) -> crate::Result<Option<[u32; 3]>> {
    let mut keys = [None; 3];
    for (id, name) in keys.iter_mut().zip(["pre", "suf", "mid"]) {
        *id = meta.opt_u32(&format!("tokenizer.ggml.fim_{name}_token_id"))?;
    }
    let known = |id: &u32| (*id as usize) < tokenizer.vocab_size();
    if let [Some(prefix), Some(suffix), Some(middle)] = keys.map(|id| id.filter(known)) {
        return Ok(Some([prefix, suffix, middle]));
    }
    let id = |name: &str| {
        let ids = tokenizer.encode(name, EncodeOptions { add_special: false, parse_special: true }).ok()?;
        <[u32; 1]>::try_from(ids).ok().map(|[id]| id)
    };
    let all = |names: &[&str; 3]| Some([id(names[0])?, id(names[1])?, id(names[2])?]);
    Ok(FIM_NAMES.iter().find_map(all))
}
