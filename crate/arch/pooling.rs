//! How embeddings are made of hidden states, as files say it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Meta, Value};

/// How the rows of a text, one for each token, become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// They do not: every token has its own.
    None,
    /// Their mean.
    Mean,
    /// The row of the first token.
    Cls,
    /// The row of the last token.
    Last,
    /// That row through a classifier, of a model that ranks: the probabilities of its classes, of which the first says how well a
    /// document answers a query. Of a single class its score as it is.
    Rank,
}

impl Pooling {
    /// What the file says by `pooling_type`; `None` where it says nothing, as files of models that generate do.
    pub fn from_gguf(meta: &Meta) -> Result<Option<Self>> {
        let key = meta.arch_key("pooling_type")?;
        if matches!(meta.get(&key), Some(Value::Int(-1))) {
            return Ok(None);
        }
        match meta.opt_u32(&key)? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(Self::Mean)),
            Some(2) => Ok(Some(Self::Cls)),
            Some(3) => Ok(Some(Self::Last)),
            Some(4) => Ok(Some(Self::Rank)),
            Some(other) => {
                let detail = format!("is {other}, expected -1 to 4");
                Err(Error::new(ErrorKind::BadConfig, detail).at(format!("key `{key}`")))
            }
        }
    }
}
