//! The sampling parameters of a file.

use serde::Serialize;

use super::sampler::SamplerParams;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Meta, Value};

/// The sampling that the makers of a model recommend, where its file has it and the sampler supports it: the defaults
/// of parameters that a caller leaves out. The sequence of samplers, XTC and mirostat are not read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each is the parameter of SamplerParams with its name")]
#[serde(rename_all = "camelCase")]
pub struct FileSampling {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_last_n: Option<usize>,
}

impl FileSampling {
    /// Reads the keys `general.sampling.*`.
    pub fn from_gguf(meta: &Meta) -> Result<Self> {
        let key = |name: &str| format!("general.sampling.{name}");
        let wrong =
            |name: &str| Error::new(ErrorKind::WrongKeyType, "must be a number").at(format!("key `{}`", key(name)));
        let float = |name: &str| match meta.get(&key(name)) {
            None => Ok(None),
            Some(Value::Float(f)) => Ok(Some(*f as f32)),
            Some(Value::Int(n)) => Ok(Some(*n as f32)),
            Some(Value::Uint(n)) => Ok(Some(*n as f32)),
            Some(_) => Err(wrong(name)),
        };
        // `below` stands for a negative number.
        let count = |name: &str, below: usize| match meta.get(&key(name)) {
            None => Ok(None),
            Some(Value::Int(n)) => Ok(Some(usize::try_from(*n).unwrap_or(below))),
            Some(Value::Uint(n)) => Ok(Some(usize::try_from(*n).unwrap_or(usize::MAX))),
            Some(_) => Err(wrong(name)),
        };
        let file = Self {
            temperature: float("temp")?,
            top_k: count("top_k", 0)?,
            top_p: float("top_p")?,
            min_p: float("min_p")?,
            repeat_penalty: float("penalty_repeat")?,
            penalty_last_n: count("penalty_last_n", usize::MAX)?,
        };
        let checked = file.over(SamplerParams::default()).check();
        checked.map_err(|e| Error::new(ErrorKind::BadConfig, e.detail()).at("keys `general.sampling.*`"))?;
        Ok(file)
    }

    /// These values where present, and those of `base` for the rest.
    #[must_use]
    pub fn over(&self, base: SamplerParams) -> SamplerParams {
        SamplerParams {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(base.repeat_penalty),
            penalty_last_n: self.penalty_last_n.unwrap_or(base.penalty_last_n),
            ..base
        }
    }
}
