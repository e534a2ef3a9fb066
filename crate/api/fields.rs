//! Reading JSON with the path of what is read, so that an error can name it.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

pub(super) type Result<T> = std::result::Result<T, ApiError>;

/// More items than a list of anything but token ids has: each gets a path.
const MOST_ITEMS: usize = 1 << 16;

/// Longer values are cut in messages.
const SHOWN: usize = 60;

/// A value and where it stands.
pub(super) struct At<'a> {
    pub value: &'a Value,
    pub path: String,
}

/// An object, of which fields are taken by name.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
    taken: Vec<&'static str>,
}

impl<'a> At<'a> {
    /// The error that goes on from the name of the value.
    pub(super) fn refuse(&self, detail: impl std::fmt::Display) -> ApiError {
        ApiError::invalid(&self.path, detail)
    }

    /// The error that says what was expected, and what there is.
    pub(super) fn must(&self, be: &str) -> ApiError {
        let mut shown = self.value.to_string();
        if shown.len() > SHOWN {
            shown.truncate(shown.floor_char_boundary(SHOWN));
            shown.push_str("...");
        }
        self.refuse(format_args!("must be {be}, is {shown}"))
    }

    pub(super) fn boolean(&self) -> Result<bool> {
        self.value.as_bool().ok_or_else(|| self.must("true or false"))
    }

    pub(super) fn string(&self) -> Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.must("a string"))
    }

    pub(super) fn number(&self, range: RangeInclusive<f64>) -> Result<f32> {
        let be = || match (*range.start(), *range.end()) {
            (f64::MIN, _) => "a number".to_string(),
            (min, f64::MAX) => format!("a number of at least {min}"),
            (min, max) => format!("a number from {min} to {max}"),
        };
        let number = self.value.as_f64().filter(|n| range.contains(n) && (*n as f32).is_finite());
        number.map(|n| n as f32).ok_or_else(|| self.must(&be()))
    }

    pub(super) fn count(&self, range: RangeInclusive<usize>) -> Result<usize> {
        let be = || match (*range.start(), *range.end()) {
            (min, usize::MAX) => format!("an integer of at least {min}"),
            (min, max) => format!("an integer from {min} to {max}"),
        };
        let number = self.value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n));
        number.ok_or_else(|| self.must(&be()))
    }

    pub(super) fn one_of<'b>(&self, names: &[&'b str]) -> Result<&'b str> {
        let found = self.value.as_str().and_then(|s| names.iter().find(|n| **n == s));
        found.copied().ok_or_else(|| {
            let names: Vec<_> = names.iter().map(|n| format!("\"{n}\"")).collect();
            self.must(&names.join(" or "))
        })
    }

    pub(super) fn object(&self) -> Result<Fields<'a>> {
        match self.value {
            Value::Object(object) => Ok(Fields { object, path: self.path.clone(), taken: Vec::new() }),
            _ => Err(self.must("an object")),
        }
    }

    pub(super) fn list(&self, what: &str) -> Result<Vec<At<'a>>> {
        let Value::Array(list) = self.value else { return Err(self.must(&format!("a list of {what}"))) };
        if list.len() > MOST_ITEMS {
            return Err(self.refuse(format_args!("must have at most {MOST_ITEMS} {what}, has {}", list.len())));
        }
        let at = |(i, value)| At { value, path: format!("{}[{i}]", self.path) };
        Ok(list.iter().enumerate().map(at).collect())
    }

    /// Token ids, if the value is a list that starts with a number.
    pub(super) fn ids(&self) -> Result<Option<Vec<u32>>> {
        let Some(list) = self.value.as_array().filter(|list| list.first().is_some_and(Value::is_number)) else {
            return Ok(None);
        };
        let id = |(i, value): (usize, &'a Value)| {
            let at = || At { value, path: format!("{}[{i}]", self.path) };
            value.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| at().must("a token id"))
        };
        list.iter().enumerate().map(id).collect::<Result<_>>().map(Some)
    }

    /// The tokens of a string, of a list of strings, of a list of ids or of a list of those: at most so many texts, each of
    /// which `encode` reads if it is a string.
    pub(super) fn inputs(&self, most: usize, encode: impl Fn(&At<'_>) -> Result<Vec<u32>>) -> Result<Vec<Vec<u32>>> {
        if let Some(ids) = self.ids()? {
            return Ok(vec![ids]);
        }
        if self.value.is_string() {
            return Ok(vec![encode(self)?]);
        }
        if !self.value.is_array() {
            return Err(self.must("a string, a list of strings, a list of token ids or a list of such lists"));
        }
        let list = self.list("texts")?;
        // Each is tokenised: a longer list is refused before that.
        if !(1..=most).contains(&list.len()) {
            return Err(self.refuse(format_args!("must have 1 to {most} texts, has {}", list.len())));
        }
        list.iter().map(|at| at.ids()?.map_or_else(|| encode(at), Ok)).collect()
    }
}

impl<'a> Fields<'a> {
    /// A field that is there and not null.
    pub(super) fn take(&mut self, name: &'static str) -> Option<At<'a>> {
        self.taken.push(name);
        let value = self.object.get(name).filter(|v| !v.is_null())?;
        Some(At { value, path: self.path_of(name) })
    }

    /// Reads a field that may be absent.
    pub(super) fn get<T>(&mut self, name: &'static str, read: impl FnOnce(&At<'a>) -> Result<T>) -> Result<Option<T>> {
        self.take(name).map(|at| read(&at)).transpose()
    }

    /// A field that must be there.
    pub(super) fn need(&mut self, name: &'static str) -> Result<At<'a>> {
        self.take(name).ok_or_else(|| ApiError::invalid(&self.path_of(name), "is missing"))
    }

    /// Refuses a field that has another value than the ones that are supported.
    pub(super) fn only(&mut self, name: &'static str, fits: impl FnOnce(&Value) -> bool, why: &str) -> Result<()> {
        match self.take(name) {
            Some(at) if !fits(at.value) => Err(at.refuse(why)),
            _ => Ok(()),
        }
    }

    /// Names the fields that nobody took.
    pub(super) fn rest(self, warnings: &mut Vec<String>) {
        let unknown = self.object.iter().filter(|(name, v)| !v.is_null() && !self.taken.contains(&&***name));
        warnings.extend(unknown.map(|(name, _)| self.path_of(name)));
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }
}

/// Whether a value is an empty list.
pub(super) fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}
