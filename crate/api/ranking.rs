//! The order of documents by how well they answer a query.

use serde_json::{Value, json};

use crate::engine::Pooling;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Meta;
use crate::text::ChatTemplate;

/// Documents in the order of how well they answer.
pub(super) struct Ranking {
    /// The documents, where they are wanted back.
    pub documents: Option<Vec<String>>,
    /// How many of the best are wanted.
    pub top_n: usize,
    /// Whether each vector is of a pair; else the first is the query's.
    pub pairs: bool,
}

impl Ranking {
    /// The best documents first. Equal ones stay in their order.
    pub(super) fn results(&self, vectors: &[Vec<f32>]) -> Vec<Value> {
        let mut scores: Vec<(usize, f32)> = match vectors {
            [query, documents @ ..] if !self.pairs => {
                let cosine = |v: &Vec<f32>| query.iter().zip(v).map(|(a, b)| a * b).sum();
                documents.iter().map(cosine).enumerate().collect()
            }
            pairs => pairs.iter().map(|v| v.first().copied().unwrap_or_default()).enumerate().collect(),
        };
        scores.sort_by(|a, b| b.1.total_cmp(&a.1));
        let result = |(index, score): (usize, f32)| {
            let mut result = json!({ "index": index, "relevance_score": score });
            if let Some(documents) = &self.documents {
                result["document"] = json!({ "text": documents[index] });
            }
            result
        };
        scores.into_iter().take(self.top_n).map(result).collect()
    }
}

/// The text around a query and a document, of a file whose model ranks: `tokenizer.chat_template.rerank`, in which `{query}` and
/// `{document}` stand for them.
pub(super) fn template(meta: &Meta) -> Result<Option<Result<ChatTemplate>>> {
    const KEY: &str = "tokenizer.chat_template.rerank";
    if Pooling::from_gguf(meta)? != Some(Pooling::Rank) {
        return Ok(None);
    }
    let Some(text) = meta.opt_string(KEY)? else {
        let detail =
            "is not in the file, which must say how a query and a document are put together; convert it again, or \
                      take a model that makes embeddings"
                .to_string();
        return Ok(Some(Err(Error::new(ErrorKind::BadTemplate, detail).at(format!("key `{KEY}`")))));
    };
    let mut source = String::new();
    let mut rest = text;
    let next =
        |rest: &str| ["query", "document"].into_iter().filter_map(|n| Some((rest.find(&format!("{{{n}}}"))?, n))).min();
    while let Some((at, name)) = next(rest) {
        source += &format!("{{{{ {} }}}}{{{{ {name} }}}}", Value::from(&rest[..at]));
        rest = &rest[at + name.len() + 2..];
    }
    source += &format!("{{{{ {} }}}}", Value::from(rest));
    Ok(Some(ChatTemplate::new(&source)))
}
