//! `/v1/rerank`: which documents answer a query best, as Jina's and Cohere's servers say it.

use serde_json::Value;

use super::embeddings::{Embed, MOST_TEXTS, What, encode};
use super::fields::{At, Fields, Result};
use super::model::Api;
use super::params;
use super::ranking::Ranking;
use crate::engine::EmbedParams;
use crate::error::Error;
use crate::text::template::TemplateValue;
use crate::text::{ChatTemplate, RenderOptions, chat_prompt};

pub(super) fn read(api: &Api, mut f: Fields<'_>, warnings: &mut Vec<String>) -> Result<Embed> {
    let model = api.named(&mut f)?;
    let query = f.need("query")?;
    query.string()?;
    let at = f.need("documents")?;
    let documents = at.list("documents")?;
    if !(1..=MOST_TEXTS).contains(&documents.len()) {
        return Err(at.refuse(format_args!("must have 1 to {MOST_TEXTS} documents, has {}", documents.len())));
    }
    let documents = documents.iter().map(text).collect::<Result<Vec<_>>>()?;
    let top_n = f.get("top_n", |v| v.count(1..=usize::MAX))?.unwrap_or(documents.len());
    let returned = f.get("return_documents", |v| v.boolean())?.unwrap_or(false);
    params::of_servers(&mut f)?;
    f.rest(warnings);
    let texts = match &api.rank {
        Some(template) => {
            let template = template.as_ref().map_err(Error::clone)?;
            let query = query.string()?;
            documents.iter().map(|document| pair(api, template, query, document.value)).collect::<Result<_>>()?
        }
        None => {
            let documents = documents.iter().map(|document| encode(api, document));
            [encode(api, &query)].into_iter().chain(documents).collect::<Result<_>>()?
        }
    };
    let owned = |documents: Vec<At<'_>>| documents.iter().filter_map(|d| d.value.as_str()).map(str::to_owned).collect();
    let documents = returned.then(|| owned(documents));
    let answer = What::Ranking(Ranking { documents, top_n, pairs: api.rank.is_some() });
    Ok(Embed { texts, params: EmbedParams::default(), model, answer })
}

/// A document: a string, or an object with one as its `text`.
fn text<'a>(at: &At<'a>) -> Result<At<'a>> {
    if at.value.is_string() {
        return Ok(At { value: at.value, path: at.path.clone() });
    }
    let mut fields = at.object().map_err(|_| at.must("a string or an object with a `text`"))?;
    let text = fields.need("text")?;
    text.string()?;
    Ok(text)
}

/// The tokens of a query with a document. Both are text, whatever they hold.
fn pair(api: &Api, template: &ChatTemplate, query: &str, document: &Value) -> Result<Vec<u32>> {
    let value = |name: &str, text: &str| (name.to_string(), TemplateValue::from(text));
    let variables = vec![value("query", query), value("document", document.as_str().unwrap_or_default())];
    let options = RenderOptions { variables, ..RenderOptions::default() };
    let none: [TemplateValue; 0] = [];
    Ok(chat_prompt(template, &api.tokenizer, &TemplateValue::from_iter(none), options)?)
}
