//! Decodes the items of a header one by one, with an error for each that is not valid.

use super::limits::{MAX_NAME, MAX_STRING};
use super::meta::{Array, Value, ValueType};
use crate::bail;
use crate::error::Result;

pub(super) fn magic(item: &[u8]) -> Result<()> {
    match item {
        b"GGUF" => Ok(()),
        b"FUGG" => bail!(GgufVersion, "the file is big-endian; convert it to little-endian"),
        [b'<', ..] => bail!(NotGguf, "this is a web page, not a GGUF file; does the address lead to the file itself?"),
        [b'{', ..] => bail!(NotGguf, "this is JSON, not a GGUF file; did the server answer with an error?"),
        _ => bail!(NotGguf, "the file starts with `{}`, expected `GGUF`", item.escape_ascii()),
    }
}

pub(super) fn version(v: u32) -> Result<u32> {
    match v {
        2 | 3 => Ok(v),
        _ if v & 0xffff == 0 && v != 0 => bail!(GgufVersion, "the file is big-endian; convert it to little-endian"),
        _ => bail!(GgufVersion, "unsupported GGUF version {v}; expected 2 or 3"),
    }
}

pub(super) fn value_type(id: u32) -> Result<ValueType> {
    match ValueType::from_id(id) {
        Some(ty) => Ok(ty),
        None => bail!(GgufInvalid, "unknown value type {id}; expected 0 to 12"),
    }
}

pub(super) fn name_len(item: &[u8]) -> Result<usize> {
    match u64_at(item, 0) {
        n @ 1..=MAX_NAME => Ok(n as usize),
        n => bail!(GgufInvalid, "the name has {n} bytes, must have 1 to {MAX_NAME}"),
    }
}

pub(super) fn string_len(item: &[u8]) -> Result<usize> {
    match u64_at(item, 0) {
        n @ 0..=MAX_STRING => Ok(n as usize),
        n => bail!(GgufInvalid, "declares a string of {n} bytes, the limit is {MAX_STRING}"),
    }
}

pub(super) fn utf8(item: &[u8]) -> Result<String> {
    match std::str::from_utf8(item) {
        Ok(s) => Ok(s.to_owned()),
        Err(e) => bail!(GgufInvalid, "the name is not valid UTF-8 after byte {}", e.valid_up_to()),
    }
}

pub(super) fn scalar(ty: ValueType, b: &[u8]) -> Result<Value> {
    // An array of one reads like a scalar, but an f64 must not be narrowed.
    if ty == ValueType::F64 {
        return Ok(Value::Float(f64::from_le_bytes(fixed(b))));
    }
    Ok(match elements(ty, b)? {
        Array::Uint(v) => Value::Uint(v[0]),
        Array::Int(v) => Value::Int(v[0]),
        Array::Float(v) => Value::Float(v[0].into()),
        Array::Bool(v) => Value::Bool(v[0]),
        Array::Strings(_) => unreachable!("strings are items of their own"),
    })
}

/// The elements of an array whose bytes are all there. Not for strings and arrays.
pub(super) fn elements(ty: ValueType, b: &[u8]) -> Result<Array> {
    fn each<const N: usize, T>(b: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        b.as_chunks::<N>().0.iter().map(|c| f(*c)).collect()
    }
    Ok(match ty {
        ValueType::U8 => Array::Uint(each(b, |c| u8::from_le_bytes(c).into())),
        ValueType::U16 => Array::Uint(each(b, |c| u16::from_le_bytes(c).into())),
        ValueType::U32 => Array::Uint(each(b, |c| u32::from_le_bytes(c).into())),
        ValueType::U64 => Array::Uint(each(b, u64::from_le_bytes)),
        ValueType::I8 => Array::Int(each(b, |c| i8::from_le_bytes(c).into())),
        ValueType::I16 => Array::Int(each(b, |c| i16::from_le_bytes(c).into())),
        ValueType::I32 => Array::Int(each(b, |c| i32::from_le_bytes(c).into())),
        ValueType::I64 => Array::Int(each(b, i64::from_le_bytes)),
        ValueType::F32 => Array::Float(each(b, f32::from_le_bytes)),
        ValueType::F64 => Array::Float(each(b, |c| f64::from_le_bytes(c) as f32)),
        ValueType::Bool => match b.iter().find(|v| **v > 1) {
            Some(v) => bail!(GgufInvalid, "a bool must be 0 or 1, is {v}"),
            None => Array::Bool(each(b, |[v]: [u8; 1]| v == 1)),
        },
        ValueType::String | ValueType::Array => unreachable!("strings are items of their own, arrays do not nest"),
    })
}

fn fixed<const N: usize>(b: &[u8]) -> [u8; N] {
    b.try_into().expect("the parser said how many bytes it needs")
}

pub(super) fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(fixed(&b[at..at + 4]))
}

pub(super) fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(fixed(&b[at..at + 8]))
}
