//! The metadata of an architecture. Every key is read through [`Keys`], which records it: the keys that are left over at
//! the end are those that the description did not use.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::known;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Array, Meta, Value};

/// Far above any model, and small enough that products of two sizes do not overflow 64 bits.
pub(super) const MAX_SIZE: u32 = 1 << 24;

/// Keys under the name of the architecture, such as `llama.block_count` for `block_count`.
pub struct Keys<'a> {
    meta: &'a Meta,
    arch: &'a str,
    read: RefCell<BTreeSet<String>>,
    refused: RefCell<Vec<String>>,
}

impl<'a> Keys<'a> {
    pub fn new(meta: &'a Meta) -> Result<Self> {
        Ok(Self { meta, arch: meta.architecture()?, read: RefCell::default(), refused: RefCell::default() })
    }

    pub fn arch(&self) -> &'a str {
        self.arch
    }

    pub fn has(&self, name: &str) -> bool {
        self.meta.get(&self.key(name)).is_some()
    }

    /// A size of the architecture: from 1 to a limit that no model comes near.
    pub fn size(&self, name: &str) -> Result<usize> {
        let key = self.key(name);
        self.checked_size(name, self.meta.u32(&key)?)
    }

    pub fn opt_size(&self, name: &str) -> Result<Option<usize>> {
        self.meta.opt_u32(&self.key(name))?.map(|v| self.checked_size(name, v)).transpose()
    }

    /// A size that may be absent or 0, both of which mean none.
    pub fn size_or_none(&self, name: &str) -> Result<Option<usize>> {
        match self.meta.opt_u32(&self.key(name))? {
            None | Some(0) => Ok(None),
            Some(v) => self.checked_size(name, v).map(Some),
        }
    }

    /// A float that must be finite and above zero, or absent.
    pub fn positive(&self, name: &str) -> Result<Option<f32>> {
        match self.float(name)? {
            Some(0.0) => Err(self.bad(name, "must be above zero, is 0".to_string())),
            v => Ok(v),
        }
    }

    /// A float that is finite and not negative. What 0 means is for the caller to say.
    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        match self.meta.opt_f32(&self.key(name))? {
            Some(v) if v.is_finite() && v >= 0.0 => Ok(Some(v)),
            Some(v) => Err(self.bad(name, format!("must be finite and not negative, is {v}"))),
            None => Ok(None),
        }
    }

    pub fn required_float(&self, name: &str) -> Result<f32> {
        match self.positive(name)? {
            Some(v) => Ok(v),
            None => self.meta.f32(&self.key(name)),
        }
    }

    pub fn bool(&self, name: &str) -> Result<Option<bool>> {
        self.meta.opt_bool(&self.key(name))
    }

    pub fn string(&self, name: &str) -> Result<Option<&'a str>> {
        self.meta.opt_string(&self.key(name))
    }

    /// A list of numbers that are not negative, or absent.
    pub fn sizes(&self, name: &str) -> Result<Option<Vec<u64>>> {
        let key = self.key(name);
        let list = match self.meta.opt_array(&key)? {
            None => return Ok(None),
            Some(Array::Uint(list)) => Some(list.clone()),
            Some(Array::Int(list)) => list.iter().map(|v| u64::try_from(*v).ok()).collect(),
            Some(_) => None,
        };
        let small = list.filter(|list| list.len() <= 8 && list.iter().all(|v| *v <= u64::from(MAX_SIZE)));
        small
            .map(Some)
            .ok_or_else(|| self.bad(name, "must be an array of few integers, none of them negative".to_string()))
    }

    /// A list of as many finite floats.
    pub fn floats<const N: usize>(&self, name: &str) -> Result<[f32; N]> {
        let key = self.key(name);
        let list = match self.meta.opt_array(&key)? {
            Some(Array::Float(list)) => <[f32; N]>::try_from(list.as_slice()).ok(),
            _ => None,
        };
        let finite = list.filter(|list| list.iter().all(|v| v.is_finite()));
        finite.ok_or_else(|| self.bad(name, format!("must be an array of {N} finite floats")))
    }

    /// A flag per layer, where the key is an array, which must have at least `n` entries.
    pub fn flags(&self, name: &str, n: usize) -> Result<Option<Vec<bool>>> {
        let key = self.key(name);
        let list: Vec<bool> = match self.meta.get(&key) {
            Some(Value::Array(Array::Bool(list))) => list.clone(),
            Some(Value::Array(Array::Uint(list))) if list.iter().all(|v| *v < 2) => {
                list.iter().map(|v| *v == 1).collect()
            }
            Some(Value::Array(Array::Int(list))) if list.iter().all(|v| matches!(v, 0 | 1)) => {
                list.iter().map(|v| *v == 1).collect()
            }
            Some(Value::Array(_)) => {
                return Err(self.bad(name, "must be an array of bools, one per layer".to_string()));
            }
            _ => return Ok(None),
        };
        if list.len() < n {
            return Err(self.bad(name, format!("must have an entry for each of {n} layers, has {}", list.len())));
        }
        Ok(Some(list))
    }

    /// Adds the key to those that are refused as unknown if its value is none of these.
    pub fn neutral(&self, name: &str, allowed: &[f64]) {
        let key = self.key(name);
        if let Some(value) = self.meta.get(&key).filter(|v| !known::is_number_of(v, allowed)) {
            self.refused.borrow_mut().push(known::shown(&key, value, Some(allowed)));
        }
    }

    pub fn bad(&self, name: &str, detail: String) -> Error {
        Error::new(ErrorKind::BadConfig, detail).at(format!("key `{}.{name}`", self.arch))
    }

    /// Keys that were not read, or whose values are not supported.
    pub fn refused(&self) -> Vec<String> {
        let read = self.read.borrow();
        let unread = self.meta.iter().filter(|(key, _)| !read.contains(*key));
        let unknown = unread.filter_map(|(key, value)| known::problem(self.arch, key, value));
        self.refused.borrow().iter().cloned().chain(unknown).collect()
    }

    /// The whole key, which counts as read from now on.
    fn key(&self, name: &str) -> String {
        let key = format!("{}.{name}", self.arch);
        self.read.borrow_mut().insert(key.clone());
        key
    }

    fn checked_size(&self, name: &str, v: u32) -> Result<usize> {
        if (1..=MAX_SIZE).contains(&v) {
            Ok(v as usize)
        } else {
            Err(self.bad(name, format!("must be from 1 to {MAX_SIZE}, is {v}")))
        }
    }
}
