//! Filters, tests, functions and methods as templates for transformers expect them, each paying for what it reads.

use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters, functions, tests};
use minijinja_contrib::{globals, pycompat};

use super::clock::DateTime;
use super::limits::{Budget, ELEMENT};
use super::{json, ops, python, rewrite};

type Native = fn(&Budget, &[Value]) -> Result<Value, Error>;
/// All arguments, the ones with a name among them.
type All = Rest<ValueOrKwargs>;

/// Filters that look at the elements of a list but not into them. Templates call them on all messages for each one.
const SHALLOW: [&str; 9] = ["batch", "count", "d", "default", "first", "last", "length", "list", "reverse"];

/// Registers everything that a template may call.
pub fn install(env: &mut Environment, budget: &Arc<Budget>, now: Option<DateTime>) {
    install_operators(env, budget);
    install_filters(env, budget);
    install_tests(env, budget);
    env.remove_global("debug");
    for (name, function) in [
        ("range", Value::from_function(functions::range)),
        ("dict", Value::from_function(functions::dict)),
        ("namespace", Value::from_function(functions::namespace)),
        ("joiner", Value::from_function(globals::joiner)),
    ] {
        let budget = budget.clone();
        env.add_function(name, move |state: &mut State, args: All| {
            paid(&budget, &function, state, &args.into_values())
        });
    }
    env.add_function("cycler", |args: Rest<Value>| globals::cycler(args.0));
    let shared = budget.clone();
    env.add_function("raise_exception", move |message: Value| -> Result<Value, Error> {
        let message = python::str(&message);
        *shared.raised.lock().unwrap_or_else(|e| e.into_inner()) = Some(message.clone());
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    if let Some(now) = now {
        env.add_function("strftime_now", move |pattern: &str| now.format(pattern));
    }
    let shared = budget.clone();
    env.set_unknown_method_callback(move |state, value, method, args| method_call(&shared, state, value, method, args));
}

/// Calls what minijinja provides, after paying for what it reads.
fn paid(budget: &Budget, function: &Value, state: &mut State, args: &[Value]) -> Result<Value, Error> {
    args.iter().try_for_each(|arg| budget.pay(arg))?;
    function.call(state, args)
}

fn install_operators(env: &mut Environment, budget: &Arc<Budget>) {
    type Binary = fn(&Budget, &Value, &Value) -> Result<Value, Error>;
    let binary: [(&'static str, Binary); 11] = [
        (rewrite::CONCAT, ops::concat),
        (rewrite::ADD, ops::add),
        (rewrite::MUL, ops::mul),
        (rewrite::ITEM, ops::item),
        (rewrite::COMPARE[0], |l, a, b| ops::compare(l, 0, a, b)),
        (rewrite::COMPARE[1], |l, a, b| ops::compare(l, 1, a, b)),
        (rewrite::COMPARE[2], |l, a, b| ops::compare(l, 2, a, b)),
        (rewrite::COMPARE[3], |l, a, b| ops::compare(l, 3, a, b)),
        (rewrite::COMPARE[4], |l, a, b| ops::compare(l, 4, a, b)),
        (rewrite::COMPARE[5], |l, a, b| ops::compare(l, 5, a, b)),
        (rewrite::COMPARE[6], ops::contains),
    ];
    for (name, op) in binary {
        let budget = budget.clone();
        env.add_function(name, move |a: &Value, b: &Value| op(&budget, a, b));
    }
    let shared = budget.clone();
    env.add_function(rewrite::SLICE, move |args: Rest<Value>| ops::slice(&shared, &args));
    let shared = budget.clone();
    env.add_function(rewrite::SETTLE, move |value: Value| shared.settle(value));
}

fn install_filters(env: &mut Environment, budget: &Arc<Budget>) {
    for name in ["bool", "chain", "lines", "pprint", "split", "zip"] {
        env.remove_filter(name);
    }
    for (name, filter) in [
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
    ] {
        let budget = budget.clone();
        env.add_filter(name, move |state: &mut State, args: All| {
            let args = args.into_values();
            reserve(&budget, name, &args)?;
            if SHALLOW.contains(&name) {
                args.iter().try_for_each(|arg| budget.pay_shallow(arg))?;
                return filter.call(state, &args);
            }
            paid(&budget, &filter, state, &args).or_else(|e| number_or_default(&budget, name, &args).ok_or(e))
        });
    }
    let own: [(&'static str, Native); 9] = [
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
    for (name, filter) in own {
        let budget = budget.clone();
        env.add_filter(name, move |args: All| {
            let args = args.into_values();
            if !SHALLOW.contains(&name) {
                args.iter().try_for_each(|arg| budget.pay(arg))?;
            }
            filter(&budget, &args)
        });
    }
}

/// `int` and `float` of what is no number: the default that the template names, or zero.
fn number_or_default(budget: &Budget, name: &str, args: &[Value]) -> Option<Value> {
    let zero = match name {
        _ if budget.is_exceeded() => return None,
        "int" => Value::from(0),
        "float" => Value::from(0.0),
        _ => return None,
    };
    let named = args.get(1).filter(|v| v.is_kwargs()).and_then(|v| v.get_attr("default").ok());
    Some(named.or_else(|| args.get(1).cloned()).filter(|v| !v.is_undefined()).unwrap_or(zero))
}

fn install_tests(env: &mut Environment, budget: &Arc<Budget>) {
    for (names, test) in [
        (&["eq", "equalto", "=="][..], Value::from_function(tests::is_eq)),
        (&["ne", "!="], Value::from_function(tests::is_ne)),
        (&["lt", "lessthan", "<"], Value::from_function(tests::is_lt)),
        (&["le", "<="], Value::from_function(tests::is_le)),
        (&["gt", "greaterthan", ">"], Value::from_function(tests::is_gt)),
        (&["ge", ">="], Value::from_function(tests::is_ge)),
        (&["in"], Value::from_function(tests::is_in)),
        (&["lower"], Value::from_function(tests::is_lower)),
        (&["upper"], Value::from_function(tests::is_upper)),
        (&["startingwith"], Value::from_function(tests::is_startingwith)),
        (&["endingwith"], Value::from_function(tests::is_endingwith)),
    ] {
        for name in names {
            let (budget, test) = (budget.clone(), test.clone());
            env.add_test(*name, move |state: &mut State, args: All| -> Result<bool, Error> {
                paid(&budget, &test, state, &args.into_values()).map(|v| v.is_true())
            });
        }
    }
    env.add_test("callable", |v: &Value| v.kind() == ValueKind::Plain);
    env.add_test("number", |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool));
    let container =
        |v: &Value| matches!(v.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined);
    env.add_test("sequence", container);
    env.add_test("iterable", move |v: &Value| container(v) || v.kind() == ValueKind::Iterable);
}

/// Pays beforehand for filters and methods that make much out of little.
fn reserve(budget: &Budget, name: &str, args: &[Value]) -> Result<(), Error> {
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

fn method_call(
    budget: &Budget,
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let mut all = vec![value.clone()];
    all.extend_from_slice(args);
    // Methods of a map read its keys only.
    if value.kind() != ValueKind::Map {
        budget.pay(value)?;
    }
    args.iter().try_for_each(|arg| budget.pay(arg))?;
    if method == "join" && value.as_str().is_some() {
        let [separator, items] = &all[..] else { return Err(Error::from(ErrorKind::MissingArgument)) };
        return join(budget, &[items.clone(), separator.clone()]);
    }
    reserve(budget, method, &all)?;
    pycompat::unknown_method_callback(state, value, method, args)
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

fn join(budget: &Budget, args: &[Value]) -> Result<Value, Error> {
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
