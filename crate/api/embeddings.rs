//! `/v1/embeddings`.

use serde_json::{Value, json};

use super::base64;
use super::fields::{At, Fields, Result};
use super::model::Api;
use super::params;
use crate::engine::EmbedParams;
use crate::text::EncodeOptions;

/// The most texts of one request: OpenAI's.
const MOST_TEXTS: usize = 2048;

/// Texts to embed.
pub struct Embed {
    /// The tokens of each.
    pub texts: Vec<Vec<u32>>,
    /// What is made of them.
    pub params: EmbedParams,
    model: String,
    base64: bool,
}

impl Embed {
    /// The body for the vectors of the texts.
    pub fn body(&self, vectors: &[Vec<f32>]) -> String {
        let value = |vector: &Vec<f32>| match self.base64 {
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Value::from(base64::encode(&bytes))
            }
            false => json!(vector),
        };
        let datum = |(index, vector): (usize, &Vec<f32>)| json!({ "object": "embedding", "index": index, "embedding": value(vector) });
        let tokens = self.tokens();
        json!({
            "object": "list",
            "data": vectors.iter().enumerate().map(datum).collect::<Value>(),
            "model": self.model,
            "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        })
        .to_string()
    }

    /// Tokens of all texts.
    pub fn tokens(&self) -> usize {
        self.texts.iter().map(Vec::len).sum()
    }
}

pub(super) fn read(api: &Api, mut f: Fields<'_>, warnings: &mut Vec<String>) -> Result<Embed> {
    let model = api.named(&mut f)?;
    let texts = texts(api, &f.need("input")?)?;
    let dimensions = f.get("dimensions", |v| v.count(1..=usize::MAX))?;
    let format = f.get("encoding_format", |v| v.one_of(&["float", "base64"]))?;
    params::of_servers(&mut f)?;
    f.rest(warnings);
    let params = EmbedParams { dimensions, ..EmbedParams::default() };
    Ok(Embed { texts, params, model, base64: format == Some("base64") })
}

/// A string, a list of strings, a list of ids, or a list of those.
fn texts(api: &Api, at: &At<'_>) -> Result<Vec<Vec<u32>>> {
    if let Some(ids) = at.ids()? {
        return Ok(vec![ids]);
    }
    if at.value.is_string() {
        return Ok(vec![encode(api, at)?]);
    }
    if !at.value.is_array() {
        return Err(at.must("a string, a list of strings, a list of token ids or a list of such lists"));
    }
    let list = at.list("texts")?;
    if !(1..=MOST_TEXTS).contains(&list.len()) {
        return Err(at.refuse(format_args!("must have 1 to {MOST_TEXTS} texts, has {}", list.len())));
    }
    list.iter().map(|at| at.ids()?.map_or_else(|| encode(api, at), Ok)).collect()
}

/// Names of control tokens in a text are text.
fn encode(api: &Api, at: &At<'_>) -> Result<Vec<u32>> {
    let text = at.value.as_str().ok_or_else(|| at.must("a string or a list of token ids"))?;
    Ok(api.tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false })?)
}
