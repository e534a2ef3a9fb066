//! `/v1/embeddings`, and what it has in common with `/v1/rerank`.

use serde_json::{Value, json};

use super::base64;
use super::fields::{At, Fields, Result};
use super::model::Api;
use super::params;
use super::ranking::Ranking;
use crate::engine::EmbedParams;
use crate::text::EncodeOptions;

/// The most texts of one request: OpenAI's.
pub(super) const MOST_TEXTS: usize = 2048;

/// Texts to embed.
pub struct Embed {
    /// The tokens of each.
    pub texts: Vec<Vec<u32>>,
    /// What is made of them.
    pub params: EmbedParams,
    pub(super) model: String,
    pub(super) answer: What,
}

/// What is said of the vectors.
pub(super) enum What {
    /// They themselves, as numbers or as the base64 of their bytes.
    Vectors {
        base64: bool,
    },
    Ranking(Ranking),
}

impl Embed {
    /// The body for the vectors of the texts.
    pub fn body(&self, vectors: &[Vec<f32>]) -> String {
        let mut body = match &self.answer {
            What::Vectors { base64 } => json!({ "data": Self::data(vectors, *base64) }),
            What::Ranking(ranking) => json!({ "results": ranking.results(vectors) }),
        };
        let tokens = self.tokens();
        body["object"] = json!("list");
        body["model"] = json!(self.model);
        body["usage"] = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
        body.to_string()
    }

    fn data(vectors: &[Vec<f32>], base64: bool) -> Value {
        let value = |vector: &Vec<f32>| match base64 {
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Value::from(base64::encode(&bytes))
            }
            false => json!(vector),
        };
        let datum = |(index, vector): (usize, &Vec<f32>)| json!({ "object": "embedding", "index": index, "embedding": value(vector) });
        vectors.iter().enumerate().map(datum).collect()
    }

    /// Tokens of all texts.
    pub fn tokens(&self) -> usize {
        self.texts.iter().map(Vec::len).sum()
    }
}

pub(super) fn read(api: &Api, mut f: Fields<'_>, warnings: &mut Vec<String>) -> Result<Embed> {
    let model = api.named(&mut f)?;
    let input = f.need("input")?;
    if api.rank.is_some() {
        return Err(input.refuse("the model ranks documents and makes no embeddings: ask `/v1/rerank`"));
    }
    let texts = input.inputs(MOST_TEXTS, |at| encode(api, at))?;
    let dimensions = f.get("dimensions", |v| v.count(1..=usize::MAX))?;
    let format = f.get("encoding_format", |v| v.one_of(&["float", "base64"]))?;
    params::of_servers(&mut f)?;
    f.rest(warnings);
    let params = EmbedParams { dimensions, ..EmbedParams::default() };
    Ok(Embed { texts, params, model, answer: What::Vectors { base64: format == Some("base64") } })
}

/// Names of control tokens in a text are text.
pub(super) fn encode(api: &Api, at: &At<'_>) -> Result<Vec<u32>> {
    let text = at.value.as_str().ok_or_else(|| at.must("a string or a list of token ids"))?;
    Ok(api.tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false })?)
}
