//! The filters: those of minijinja behind our accounts, and those that it lacks or has with other rules.

use minijinja::value::{Kwargs, from_args};
use minijinja::{Error, ErrorKind, Value, filters};

use super::limits::{Budget, ELEMENT};
use super::{json, ops, python};

type Native = fn(&Budget, &[Value]) -> Result<Value, Error>;

/// Filters that look at the elements of a list but not into them. Templates call them on all messages for each one.
pub(super) const SHALLOW: [&str; 9] = ["batch", "count", "d", "default", "first", "last", "length", "list", "reverse"];

/// Filters with rules of our own: Python's.
pub(super) const OWN: [(&str, Native); 9] = [
    ("count", length),
    ("join", join),
    ("length", length),
    ("round", round),
    ("string", |_, args| Ok(Value::from(python::str(args.first().unwrap_or(&Value::UNDEFINED))))),
    ("sum", sum),
    ("tojson", json::tojson),
    ("truncate", truncate),
    ("wordcount", |_, args| {
        Ok(Value::from(python::str(args.first().unwrap_or(&Value::UNDEFINED)).split_whitespace().count()))
    }),
];

/// Filters as minijinja has them.
pub(super) fn provided() -> [(&'static str, Value); 34] {
    [
        ("abs", Value::from_function(filters::abs)),
        ("attr", Value::from_function(filters::attr)),
        ("batch", Value::from_function(filters::batch)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("d", Value::from_function(filters::default)),
        ("default", Value::from_function(filters::default)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("e", Value::from_function(filters::escape)),
        ("escape", Value::from_function(filters::escape)),
        ("first", Value::from_function(filters::first)),
        ("float", Value::from_function(filters::float)),
        ("format", Value::from_function(filters::format)),
        ("groupby", Value::from_function(filters::groupby)),
        ("indent", Value::from_function(filters::indent)),
        ("int", Value::from_function(filters::int)),
        ("items", Value::from_function(filters::items)),
        ("last", Value::from_function(filters::last)),
        ("list", Value::from_function(filters::list)),
        ("lower", Value::from_function(filters::lower)),
        ("map", Value::from_function(filters::map)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("replace", Value::from_function(filters::replace)),
        ("reverse", Value::from_function(filters::reverse)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("slice", Value::from_function(filters::slice)),
        ("sort", Value::from_function(filters::sort)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("unique", Value::from_function(filters::unique)),
        ("upper", Value::from_function(filters::upper)),
    ]
}

/// Pays beforehand for filters and methods that make much out of little.
pub(super) fn reserve(budget: &Budget, name: &str, args: &[Value]) -> Result<(), Error> {
    let text = args.first().and_then(|a| a.as_str()).unwrap_or_default();
    let number = |i: usize| args.get(i).and_then(|a| a.as_usize());
    match name {
        "replace" => {
            let (from, to) = (args.get(1).and_then(|a| a.as_str()), args.get(2).map_or(0, |a| python::str(a).len()));
            let count = from.map_or(0, |from| text.matches(from).count());
            budget.reserve(count.checked_mul(to).and_then(|n| n.checked_add(text.len())))
        }
        "indent" => {
            let kwargs = args.last().filter(|v| v.is_kwargs()).and_then(|v| v.get_attr("width").ok()?.as_usize());
            let lines = text.matches('\n').count() + 1;
            budget.reserve(lines.checked_mul(number(1).or(kwargs).unwrap_or(4)))
        }
        "batch" | "slice" => budget.reserve(number(1).unwrap_or(0).checked_mul(ELEMENT)),
        "list" | "splitlines" => budget.reserve(text.len().checked_mul(ELEMENT)),
        "split" => {
            let separator = args.get(1).and_then(|a| a.as_str());
            let parts = separator.map_or(text.len(), |s| text.matches(s).count() + 1);
            budget.reserve(parts.checked_mul(ELEMENT))
        }
        "format" => {
            // A width can be written in the format or be an argument.
            let digits = text.split(|c: char| !c.is_ascii_digit()).filter(|d| !d.is_empty());
            let written = digits.map(|d| d.parse().unwrap_or(usize::MAX)).max().unwrap_or(0);
            let width = args.iter().filter_map(|a| a.as_usize()).max().unwrap_or(0).max(written);
            let dynamic = text.contains('*') || text.contains("{:{");
            let width = if dynamic { width } else { written };
            let longest = args.iter().skip(1).map(|a| python::str(a).len()).max().unwrap_or(0);
            let fields = text.matches(['%', '{']).count();
            budget.reserve(fields.checked_mul(longest.saturating_add(width)).and_then(|n| n.checked_add(text.len())))
        }
        _ => Ok(()),
    }
}

/// `int` and `float` of what is not a number: the default that the template names, or zero.
pub(super) fn number_or_default(budget: &Budget, name: &str, args: &[Value]) -> Option<Value> {
    let zero = match name {
        _ if budget.is_exceeded() => return None,
        "int" => Value::from(0),
        "float" => Value::from(0.0),
        _ => return None,
    };
    let named = args.get(1).filter(|v| v.is_kwargs()).and_then(|v| v.get_attr("default").ok());
    Some(named.or_else(|| args.get(1).cloned()).filter(|v| !v.is_undefined()).unwrap_or(zero))
}

fn length(budget: &Budget, args: &[Value]) -> Result<Value, Error> {
    let (value,): (&Value,) = from_args(args)?;
    budget.charge(value.as_str().map_or(ELEMENT, str::len))?;
    match value.len() {
        Some(len) => Ok(Value::from(len)),
        None if value.is_undefined() => Ok(Value::from(0)),
        None => {
            let message = format!("object of type {} has no length", python::type_name(value));
            Err(Error::new(ErrorKind::InvalidOperation, message))
        }
    }
}

pub(super) fn join(budget: &Budget, args: &[Value]) -> Result<Value, Error> {
    let (items, separator, kwargs): (&Value, Option<Value>, Kwargs) = from_args(args)?;
    let separator = separator.map_or(String::new(), |s| python::str(&s));
    let attribute: Option<String> = kwargs.get("attribute")?;
    kwargs.assert_all_used()?;
    if items.is_undefined() {
        return Ok(Value::from(""));
    }
    let chars = items.as_str().map(|s| s.chars().map(|c| c.to_string()).collect::<Vec<_>>());
    let parts = match chars {
        Some(chars) => chars,
        None => items
            .try_iter()?
            .map(|item| match &attribute {
                Some(name) => item.get_attr(name).map(|v| python::str(&v)),
                None => Ok(python::str(&item)),
            })
            .collect::<Result<_, _>>()?,
    };
    budget.reserve(separator.len().checked_mul(parts.len()))?;
    Ok(Value::from(parts.join(&separator)))
}

/// Halves go to the even neighbour, as in Python.
fn round(_: &Budget, args: &[Value]) -> Result<Value, Error> {
    let (value, digits, method): (f64, Option<i32>, Option<&str>) = from_args(args)?;
    let digits = digits.unwrap_or(0);
    let scale = 10f64.powi(digits);
    let rounded = match method {
        Some("ceil") => (value * scale).ceil() / scale,
        Some("floor") => (value * scale).floor() / scale,
        // Printing rounds the exact value, which multiplying would change.
        _ if (0..=300).contains(&digits) => format!("{value:.*}", digits as usize).parse().unwrap_or(value),
        _ => (value * scale).round_ties_even() / scale,
    };
    Ok(Value::from(rounded))
}

fn sum(budget: &Budget, args: &[Value]) -> Result<Value, Error> {
    let (items, attribute, start, kwargs): (&Value, Option<String>, Option<Value>, Kwargs) = from_args(args)?;
    let attribute = attribute.or(kwargs.get("attribute")?);
    let start = start.or(kwargs.get("start")?).unwrap_or(Value::from(0));
    kwargs.assert_all_used()?;
    items.try_iter()?.try_fold(start, |sum, item| match &attribute {
        Some(name) => ops::add(budget, &sum, &item.get_attr(name)?),
        None => ops::add(budget, &sum, &item),
    })
}

fn truncate(_: &Budget, args: &[Value]) -> Result<Value, Error> {
    type Args<'a> = (&'a str, Option<usize>, Option<bool>, Option<String>, Kwargs);
    let (text, length, kill, end, kwargs): Args = from_args(args)?;
    let length = length.or(kwargs.get("length")?).unwrap_or(255);
    let kill = kill.or(kwargs.get("killwords")?).unwrap_or(false);
    let end = end.or(kwargs.get("end")?).unwrap_or("...".into());
    let leeway: usize = kwargs.get::<Option<usize>>("leeway")?.unwrap_or(5);
    kwargs.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::from(text));
    }
    let mut cut: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    if let (false, Some(at)) = (kill, cut.rfind(' ')) {
        cut.truncate(at);
    }
    Ok(Value::from(cut + &end))
}
