//! Values with shadows in them: how they come about, and how operations that look at characters treat them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Tuple, ValueKind};
use minijinja::{Error, Value};

use super::super::shadow::{Shadows, is_private};

/// Roles that a template may put between the signs of a marker. Any other word there makes no marker.
const ROLES: [&str; 10] =
    ["assistant", "developer", "environment", "function", "ipython", "model", "observation", "system", "tool", "user"];

/// Adds the private characters of all strings in a value.
pub(super) fn note_private(value: &Value, taken: &mut BTreeSet<char>) {
    replace(value, &Value::from_pairs, &mut |text, _| {
        taken.extend(text.chars().filter(|&c| is_private(c)));
        None
    });
}

/// A value of the user, with shadows in its strings and in the keys of its maps.
pub(super) fn cast(shadows: &Shadows, value: &Value) -> Value {
    replace(value, &|pairs| map(shadows, pairs), &mut |text, key| match key {
        Some("role") if ROLES.contains(&text) => None,
        _ => Some(shadows.cast(text)),
    })
}

/// A value without shadows, for comparing. As all that walks through values here it takes only those that were paid for,
/// which bounds them: a value can hold itself.
pub(super) fn plain(shadows: &Shadows, value: &Value) -> Value {
    if !are_in(shadows, value) {
        return value.clone();
    }
    replace(value, &Value::from_pairs, &mut |text, _| Some(shadows.plain(text).into_owned()))
}

/// Whether any string in it has shadows.
pub(super) fn are_in(shadows: &Shadows, value: &Value) -> bool {
    if shadows.are_off() {
        return false;
    }
    let items = || value.try_iter().into_iter().flatten();
    match (value.as_str(), value.kind()) {
        (Some(text), _) => shadows.are_in(text),
        (None, ValueKind::Seq | ValueKind::Iterable) => items().any(|v| are_in(shadows, &v)),
        (None, ValueKind::Map) => {
            items().any(|key| are_in(shadows, &key) || value.get_item(&key).is_ok_and(|v| are_in(shadows, &v)))
        }
        _ => false,
    }
}

type Pairs = Vec<(Value, Value)>;

/// The value with its strings replaced. `f` gets each with the key under which it stands, and leaves it by `None`.
fn replace(
    value: &Value,
    map: &dyn Fn(Pairs) -> Value,
    f: &mut dyn FnMut(&str, Option<&str>) -> Option<String>,
) -> Value {
    if let Some(text) = value.as_str() {
        return f(text, None).map_or_else(|| value.clone(), Value::from);
    }
    let items = || value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let list: Vec<Value> = items().map(|v| replace(&v, map, f)).collect();
            match value.get_attr("grouper") {
                Ok(grouper) if !grouper.is_undefined() => Value::from_object(Group(list)),
                _ if value.is_tuple() => Value::from(Tuple::from(list)),
                _ => Value::from(list),
            }
        }
        ValueKind::Map => {
            let item = |key: &Value, f: &mut dyn FnMut(&str, Option<&str>) -> Option<String>| {
                let item = value.get_item(key).unwrap_or_default();
                match item.as_str() {
                    Some(text) => f(text, key.as_str()).map_or_else(|| item.clone(), Value::from),
                    None => replace(&item, map, f),
                }
            };
            map(items().map(|key| (replace(&key, map, f), item(&key, f))).collect())
        }
        _ => value.clone(),
    }
}

/// A map of these pairs, which finds keys with shadows by the characters behind them.
pub(super) fn map(shadows: &Shadows, pairs: Pairs) -> Value {
    if !pairs.iter().any(|(key, _)| key.as_str().is_some_and(|key| shadows.are_in(key))) {
        return Value::from_pairs(pairs);
    }
    let keys = pairs.iter().map(|(key, _)| key.clone()).collect();
    let values = pairs.into_iter().map(|(key, value)| (lift_key(shadows, &key), value));
    Value::from_object(Map { shadows: shadows.clone(), keys, values: Value::from_pairs(values) })
}

/// A key as maps have it.
pub(super) fn lift_key(shadows: &Shadows, key: &Value) -> Value {
    match key.as_str().map(|text| shadows.plain(text)) {
        Some(Cow::Owned(plain)) => Value::from(plain),
        _ => key.clone(),
    }
}

#[derive(Debug)]
struct Map {
    shadows: Shadows,
    keys: Vec<Value>,
    /// By keys without shadows.
    values: Value,
}

impl Object for Map {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.values.as_object()?.get_value(&lift_key(&self.shadows, key))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.keys.clone())
    }
}

/// What `groupby` makes: what the items have in common, and the items.
#[derive(Debug)]
struct Group(Vec<Value>);

impl Object for Group {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = match key.as_str() {
            Some("grouper") => 0,
            Some("list") => 1,
            Some(_) => return None,
            None => key.as_usize()?,
        };
        self.0.get(index).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

/// Calls a filter or a method by its name. Its first argument is the value that it is applied to.
pub(super) fn apply(
    shadows: &Shadows,
    name: &str,
    args: &[Value],
    mut call: impl FnMut(&[Value]) -> Result<Value, Error>,
) -> Result<Value, Error> {
    if !args.iter().any(|arg| are_in(shadows, arg)) {
        return call(args);
    }
    let subject = args.first().and_then(|a| a.as_str());
    let text = |i: usize| args.get(i).and_then(|a| a.as_str());
    let lift = |value: &Value| plain(shadows, value);
    let plain: Vec<Value> = args.iter().map(lift).collect();
    match (name, subject) {
        // These look at spaces, at numbers of characters or at no characters at all, or ask others that come here.
        (
            "batch" | "d" | "default" | "first" | "indent" | "items" | "join" | "last" | "list" | "map" | "reject"
            | "rejectattr" | "reverse" | "select" | "selectattr" | "slice" | "splitlines",
            _,
        ) => call(args),
        ("attr", _) => call(&args.iter().take(1).chain(plain.iter().skip(1)).cloned().collect::<Vec<_>>()),
        ("format", Some(format)) if !shadows.are_in(format) => {
            // Widths are counted in bytes, of which a shadow has more.
            let (shadowed, plain) = (call(args)?, call(&plain)?);
            Ok(if lift(&shadowed) == plain { shadowed } else { cast(shadows, &plain) })
        }
        ("lstrip" | "rsplit" | "rstrip" | "split" | "strip" | "trim", Some(subject)) => match text(1) {
            // A separator that is given by its name.
            None if args.iter().any(|arg| arg.is_kwargs()) => call(&plain).map(|done| cast(shadows, &done)),
            None => call(args),
            Some(ends) => {
                let skip = if name.ends_with("split") { shadows.plain(ends).len() } else { 0 };
                Ok(cut(shadows, subject, skip, &call(&plain)?))
            }
        },
        ("capitalize" | "lower" | "title" | "upper", Some(subject)) => {
            let done = call(&plain)?;
            Ok(done.as_str().map_or_else(|| done.clone(), |d| Value::from(shadows.cast_as(d, subject))))
        }
        ("replace", Some(subject)) if text(1).is_some_and(|old| !old.is_empty()) => {
            // For what it costs, and for what may be wrong with the arguments.
            call(&plain)?;
            let count = args.get(3).and_then(|n| n.as_usize()).unwrap_or(usize::MAX);
            let old = shadows.plain(text(1).unwrap_or_default());
            let kept = plain[0].as_str().map_or(vec![], |all| all.splitn(count.saturating_add(1), &*old).collect());
            let kept = cut(shadows, subject, old.len(), &kept.into_iter().collect());
            let new = super::python::str(args.get(2).unwrap_or(&Value::UNDEFINED));
            let kept: Vec<Value> = kept.try_iter()?.collect();
            Ok(Value::from(kept.iter().filter_map(|k| k.as_str()).collect::<Vec<_>>().join(&new)))
        }
        _ => call(&plain).map(|done| cast(shadows, &done)),
    }
}

/// The pieces of `subject` that an operation cut out of its plain text, in their order. Between two of them it left out
/// `skip` bytes.
fn cut(shadows: &Shadows, subject: &str, skip: usize, pieces: &Value) -> Value {
    let plain = shadows.plain(subject);
    let mut left = Twins { plain: &plain, shadowed: subject };
    let mut one = |piece: &Value| {
        let text = piece.as_str().unwrap_or_default();
        left.take(left.plain.find(text).unwrap_or(0));
        let piece = left.take(text.len());
        left.take(skip);
        Value::from(piece)
    };
    match pieces.as_str() {
        Some(_) => one(pieces),
        None => pieces.try_iter().into_iter().flatten().map(|piece| one(&piece)).collect(),
    }
}

/// A text without and with its shadows: character by character the same.
struct Twins<'t> {
    plain: &'t str,
    shadowed: &'t str,
}

impl<'t> Twins<'t> {
    /// Takes so many bytes of the plain text, and what they are in the other.
    fn take(&mut self, bytes: usize) -> &'t str {
        let (before, after) = self.plain.split_at(bytes.min(self.plain.len()));
        let end = self.shadowed.char_indices().nth(before.chars().count()).map_or(self.shadowed.len(), |(at, _)| at);
        let (taken, left) = self.shadowed.split_at(end);
        (self.plain, self.shadowed) = (after, left);
        taken
    }
}
