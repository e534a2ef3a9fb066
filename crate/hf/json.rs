//! Typed access to a JSON object of a checkpoint, with the file and the key named in every error.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// An object, and the file that it is in. A key with `null` counts as absent, as in transformers.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub file: &'a str,
    pub value: &'a Value,
}

/// Parses a file whose text is one JSON object.
pub(super) fn parse(file: &str, text: &str) -> Result<Value> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Error::new(ErrorKind::BadCheckpoint, "must be a JSON object").at(file)),
        Err(e) => Err(Error::new(ErrorKind::BadCheckpoint, format!("is not valid JSON: {e}")).at(file)),
    }
}

impl<'a> Object<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    /// Whether the key is present as `null`, where that differs from being absent.
    pub(super) fn is_null(&self, key: &str) -> bool {
        self.value.get(key).is_some_and(Value::is_null)
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Object<'a>>> {
        let value = self.typed(key, "an object", |v| v.is_object().then_some(v))?;
        Ok(value.map(|value| Object { file: self.file, value }))
    }

    pub(super) fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "an unsigned 32-bit integer", |v| u32::try_from(v.as_u64()?).ok())
    }

    pub(super) fn u32(&self, key: &str) -> Result<u32> {
        self.required(key, self.opt_u32(key)?)
    }

    pub(super) fn opt_f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub(super) fn f64(&self, key: &str) -> Result<f64> {
        self.required(key, self.opt_f64(key)?)
    }

    pub(super) fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(super) fn opt_str(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(super) fn str(&self, key: &str) -> Result<&'a str> {
        self.required(key, self.opt_str(key)?)
    }

    pub(super) fn list(&self, key: &str) -> Result<Option<&'a Vec<Value>>> {
        self.typed(key, "an array", Value::as_array)
    }

    /// The place of a key, for an error.
    pub(super) fn at(&self, key: &str) -> String {
        format!("{}, key `{key}`", self.file)
    }

    pub(super) fn bad(&self, key: &str, detail: impl Into<String>) -> Error {
        Error::new(ErrorKind::BadConfig, detail).at(self.at(key))
    }

    fn typed<T>(&self, key: &str, want: &str, get: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match get(value) {
            Some(t) => Ok(Some(t)),
            None => Err(Error::new(ErrorKind::WrongKeyType, format!("must be {want}")).at(self.at(key))),
        }
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::new(ErrorKind::MissingKey, "is not in the file").at(self.at(key)))
    }
}
