//! Operators with Python's rules, paying for what they make.

use std::cmp::Ordering;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::limits::{Budget, ELEMENT};
use super::{python, shadowed};

fn refuse(op: &str, a: &Value, b: &Value) -> Error {
    if a.is_undefined() || b.is_undefined() {
        return Error::new(ErrorKind::UndefinedError, format!("{op} of something that is undefined"));
    }
    let (a, b) = (python::type_name(a), python::type_name(b));
    Error::new(ErrorKind::InvalidOperation, format!("unsupported operand types for {op}: {a} and {b}"))
}

enum Numbers {
    Int(i128, i128),
    Float(f64, f64),
}

fn numbers(a: &Value, b: &Value) -> Option<Numbers> {
    let int = |v: &Value| match v.kind() {
        ValueKind::Bool => Some(i128::from(v.is_true())),
        ValueKind::Number if v.is_integer() => i128::try_from(v.clone()).ok(),
        _ => None,
    };
    let float = |v: &Value| match v.kind() {
        ValueKind::Number => f64::try_from(v.clone()).ok(),
        _ => int(v).map(|i| i as f64),
    };
    match (int(a), int(b)) {
        (Some(a), Some(b)) => Some(Numbers::Int(a, b)),
        _ => Some(Numbers::Float(float(a)?, float(b)?)),
    }
}

fn int(value: Option<i128>) -> Result<Value, Error> {
    let value = value.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "an integer of more than 128 bits"))?;
    Ok(i64::try_from(value).map_or_else(|_| Value::from(value), Value::from))
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// `a ~ b`
pub(super) fn concat(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    budget.pay(a)?;
    budget.pay(b)?;
    let mut out = String::new();
    python::write_str(&mut out, a);
    python::write_str(&mut out, b);
    budget.reserve(Some(out.len()))?;
    Ok(Value::from(out))
}

/// `a + b`
pub(super) fn add(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(x), Some(y)) = (a.as_str(), b.as_str()) {
        budget.reserve(Some(x.len() + y.len()))?;
        return Ok(Value::from([x, y].concat()));
    }
    if is_list(a) && is_list(b) && a.is_tuple() == b.is_tuple() {
        let len = a.len().unwrap_or(0) + b.len().unwrap_or(0);
        budget.reserve(len.checked_mul(ELEMENT))?;
        let items: Vec<Value> = a.try_iter()?.chain(b.try_iter()?).collect();
        return Ok(if a.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) });
    }
    match numbers(a, b) {
        Some(Numbers::Int(a, b)) => int(a.checked_add(b)),
        Some(Numbers::Float(a, b)) => Ok(Value::from(a + b)),
        None => Err(refuse("+", a, b)),
    }
}

/// `a * b`
pub(super) fn mul(budget: &Budget, a: &Value, b: &Value) -> Result<Value, Error> {
    let (thing, count) = if b.as_str().is_some() || is_list(b) { (b, a) } else { (a, b) };
    let times = || {
        let times = numbers(count, count).ok_or_else(|| refuse("*", a, b))?;
        match times {
            Numbers::Int(n, _) => Ok(usize::try_from(n.max(0)).unwrap_or(usize::MAX)),
            Numbers::Float(..) => Err(refuse("*", a, b)),
        }
    };
    if let Some(text) = thing.as_str() {
        let times = times()?;
        budget.reserve(text.len().checked_mul(times))?;
        return Ok(Value::from(text.repeat(times)));
    }
    if is_list(thing) {
        let times = times()?;
        let items: Vec<Value> = thing.try_iter()?.collect();
        budget.reserve(items.len().checked_mul(times).and_then(|n| n.checked_mul(ELEMENT)))?;
        let items: Vec<Value> = (0..if items.is_empty() { 0 } else { times }).flat_map(|_| items.clone()).collect();
        return Ok(if thing.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) });
    }
    match numbers(a, b) {
        Some(Numbers::Int(a, b)) => int(a.checked_mul(b)),
        Some(Numbers::Float(a, b)) => Ok(Value::from(a * b)),
        None => Err(refuse("*", a, b)),
    }
}

/// `-a`
pub(super) fn neg(a: &Value) -> Result<Value, Error> {
    match numbers(a, a) {
        Some(Numbers::Int(a, _)) => int(a.checked_neg()),
        Some(Numbers::Float(a, _)) => Ok(Value::from(-a)),
        None => Err(refuse("-", a, a)),
    }
}

/// `*lists` before a call, as one list.
pub(super) fn unpack(budget: &Budget, lists: &[Value]) -> Result<Value, Error> {
    let lens = lists.iter().map(|list| list.len().unwrap_or(0));
    budget.reserve(lens.fold(0, usize::saturating_add).checked_mul(ELEMENT))?;
    let items: Result<Vec<_>, Error> = lists.iter().map(Value::try_iter).collect();
    Ok(Value::from(items?.into_iter().flatten().collect::<Vec<Value>>()))
}

/// `==`, `!=`, `<`, `<=`, `>`, `>=`, in this order.
pub(super) fn compare(budget: &Budget, op: usize, a: &Value, b: &Value) -> Result<Value, Error> {
    budget.pay(a)?;
    budget.pay(b)?;
    let (a, b) = (&shadowed::plain(&budget.shadows, a), &shadowed::plain(&budget.shadows, b));
    if op < 2 {
        return Ok(Value::from((a == b) == (op == 0)));
    }
    let comparable = numbers(a, b).is_some() || (a.as_str().is_some() && b.as_str().is_some());
    if !(comparable || is_list(a) && is_list(b)) {
        return Err(refuse("comparison", a, b));
    }
    let order = a.cmp(b);
    Ok(Value::from(match op {
        2 => order == Ordering::Less,
        3 => order != Ordering::Greater,
        4 => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

/// `item in container`
pub(super) fn contains(budget: &Budget, item: &Value, container: &Value) -> Result<Value, Error> {
    budget.pay(item)?;
    // A look-up in a map does not touch its values.
    if container.kind() != ValueKind::Map {
        budget.pay(container)?;
    }
    let item = &shadowed::plain(&budget.shadows, item);
    let plain = match container.kind() {
        ValueKind::Map => container.clone(),
        _ => shadowed::plain(&budget.shadows, container),
    };
    let container = &plain;
    let found = match (container.as_str(), item.as_str()) {
        (Some(text), Some(part)) => text.contains(part),
        _ => match container.kind() {
            ValueKind::Undefined => false,
            ValueKind::Map => container.as_object().is_some_and(|o| o.get_value(item).is_some()),
            ValueKind::Seq | ValueKind::Iterable => container.try_iter()?.any(|v| v == *item),
            _ => return Err(refuse("in", item, container)),
        },
    };
    Ok(Value::from(found))
}

/// `value[key]`
pub(super) fn item(budget: &Budget, value: &Value, key: &Value) -> Result<Value, Error> {
    budget.pay(key)?;
    match value.as_str() {
        // Characters have no index: finding one reads the string.
        Some(text) => budget.charge(text.len())?,
        None => budget.charge(ELEMENT)?,
    }
    value.get_item(&shadowed::lift_key(&budget.shadows, key))
}

/// `value[start:stop:step]`
pub(super) fn slice(budget: &Budget, args: &[Value]) -> Result<Value, Error> {
    let [value, start, stop, step] = args else {
        return Err(Error::from(ErrorKind::MissingArgument));
    };
    let bound = |v: &Value| match v.is_none() {
        true => Ok(None),
        false => i64::try_from(v.clone()).map(Some),
    };
    let range =
        |len: usize| Ok::<_, Error>(indices(len as i64, bound(start)?, bound(stop)?, bound(step)?.unwrap_or(1)));
    if step.as_i64() == Some(0) {
        return Err(Error::new(ErrorKind::InvalidOperation, "slice step cannot be zero"));
    }
    if let Some(text) = value.as_str() {
        budget.reserve(text.len().checked_mul(4))?;
        let chars: Vec<char> = text.chars().collect();
        return Ok(Value::from(range(chars.len())?.map(|i| chars[i]).collect::<String>()));
    }
    if !is_list(value) {
        return Err(refuse("[:]", value, start));
    }
    budget.reserve(value.len().unwrap_or(0).checked_mul(ELEMENT))?;
    let items: Vec<Value> = value.try_iter()?.collect();
    let part: Vec<Value> = range(items.len())?.map(|i| items[i].clone()).collect();
    Ok(if value.is_tuple() { Value::from(Tuple::from(part)) } else { Value::from(part) })
}

/// The indices that a slice takes, with Python's rules for what is negative or beyond the end.
fn indices(len: i64, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let place = |i: Option<i64>, default: i64| match i {
        Some(i) if i < 0 => i.saturating_add(len).max(low),
        Some(i) => i.min(high),
        None => default,
    };
    let start = place(start, if step > 0 { low } else { high });
    let stop = place(stop, if step > 0 { high } else { low });
    let inside = move |&i: &i64| if step > 0 { i < stop } else { i > stop };
    std::iter::successors(Some(start).filter(inside), move |i| i.checked_add(step).filter(inside)).map(|i| i as usize)
}
