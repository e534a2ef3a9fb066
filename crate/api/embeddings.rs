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
    let texts = f.need("input")?.inputs(MOST_TEXTS, |at| encode(api, at))?;
    let dimensions = f.get("dimensions", |v| v.count(1..=usize::MAX))?;
    let format = f.get("encoding_format", |v| v.one_of(&["float", "base64"]))?;
    params::of_servers(&mut f)?;
    f.rest(warnings);
    let params = EmbedParams { dimensions, ..EmbedParams::default() };
    Ok(Embed { texts, params, model, base64: format == Some("base64") })
}

/// Names of control tokens in a text are text.
fn encode(api: &Api, at: &At<'_>) -> Result<Vec<u32>> {
    let text = at.value.as_str().ok_or_else(|| at.must("a string or a list of token ids"))?;
    Ok(api.tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false })?)
}
