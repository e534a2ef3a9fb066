//! Filters, tests, functions and methods as templates for transformers expect them, each paying for what it reads.

use std::sync::Arc;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, functions, tests};
use minijinja_contrib::{globals, pycompat};

use super::clock::DateTime;
use super::limits::{Budget, CHANGING, HOLDERS};
use super::{filters, methods, ops, python, rewrite, shadowed};

/// All arguments, the ones with a name among them.
type All = Rest<ValueOrKwargs>;

/// Registers everything that a template may call.
pub(super) fn install(env: &mut Environment, budget: &Arc<Budget>, now: Option<DateTime>) {
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
            let args = args.into_values();
            if name == "joiner" {
                args.iter().try_for_each(|arg| budget.hold(arg, &HOLDERS))?;
            }
            let made = paid(&budget, &function, state, &args)?;
            Ok::<_, Error>(if name == "dict" { map(&budget, &made) } else { made })
        });
    }
    let shared = budget.clone();
    env.add_function("cycler", move |args: Rest<Value>| {
        args.iter().try_for_each(|arg| shared.pay(arg).and_then(|()| shared.hold(arg, &HOLDERS)))?;
        globals::cycler(args.0)
    });
    let shared = budget.clone();
    env.add_function("raise_exception", move |message: Value| -> Result<Value, Error> {
        let message = shared.shadows.plain(&python::str(&message)).into_owned();
        *shared.raised.lock().unwrap_or_else(|e| e.into_inner()) = Some(message.clone());
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    if let Some(now) = now {
        let shared = budget.clone();
        env.add_function("strftime_now", move |pattern: &Value| {
            shared.pay(pattern)?;
            shadowed::apply(&shared.shadows, "strftime_now", std::slice::from_ref(pattern), |args| {
                match args[0].as_str() {
                    Some(pattern) => now.format(pattern).map(Value::from),
                    None => Err(Error::new(ErrorKind::InvalidOperation, "strftime_now takes a string")),
                }
            })
        });
    }
    let shared = budget.clone();
    env.set_unknown_method_callback(move |state, value, method, args| method_call(&shared, state, value, method, args));
}

/// Calls what minijinja provides, after paying for what it reads.
fn paid(budget: &Budget, function: &Value, state: &mut State, args: &[Value]) -> Result<Value, Error> {
    args.iter().try_for_each(|arg| budget.pay(arg))?;
    function.call(state, args)
}

/// A map that a template made: its keys may have shadows.
fn map(budget: &Budget, value: &Value) -> Value {
    let keys: Vec<Value> = value.try_iter().into_iter().flatten().collect();
    if !keys.iter().any(|key| key.as_str().is_some_and(|key| budget.shadows.are_in(key))) {
        return value.clone();
    }
    let pairs = keys.into_iter().map(|key| (key.clone(), value.get_item(&key).unwrap_or_default()));
    shadowed::map(&budget.shadows, pairs.collect())
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
    env.add_function(rewrite::SETTLE, move |args: All| shared.settle(args.into_values().pop().unwrap_or_default()));
    env.add_function(rewrite::NEG, ops::neg);
    let shared = budget.clone();
    env.add_function(rewrite::UNPACK, move |lists: Rest<Value>| ops::unpack(&shared, &lists));
    let shared = budget.clone();
    env.add_function(rewrite::HOLD, move |value: Value| shared.hold(&value, &CHANGING).map(|()| value));
    for (name, method) in [(rewrite::CHANGED, "changed"), (rewrite::CYCLE, "cycle")] {
        let budget = budget.clone();
        env.add_function(name, move |state: &mut State, args: All| {
            let args = args.into_values();
            let Some((object, args)) = args.split_first() else { return Err(Error::from(ErrorKind::MissingArgument)) };
            if method == "cycle" && args.is_empty() {
                return Err(Error::new(ErrorKind::MissingArgument, "no items for cycling given"));
            }
            args.iter().try_for_each(|arg| budget.pay(arg).and_then(|()| budget.hold(arg, &HOLDERS)))?;
            object.call_method(state, method, args)
        });
    }
    let shared = budget.clone();
    env.add_function(rewrite::MAP, move |value: Value| map(&shared, &value));
    let shared = budget.clone();
    env.add_function(rewrite::PLAIN, move |value: Value| {
        shared.pay(&value)?;
        Ok::<_, Error>(shadowed::plain(&shared.shadows, &value))
    });
}

fn install_filters(env: &mut Environment, budget: &Arc<Budget>) {
    for name in ["bool", "chain", "lines", "pprint", "split", "zip"] {
        env.remove_filter(name);
    }
    for (name, filter) in filters::provided() {
        let budget = budget.clone();
        env.add_filter(name, move |state: &mut State, args: All| {
            let args = args.into_values();
            filters::reserve(&budget, name, &args)?;
            if filters::SHALLOW.contains(&name) {
                args.iter().try_for_each(|arg| budget.pay_shallow(arg))?;
                return filter.call(state, &args);
            }
            args.iter().try_for_each(|arg| budget.pay(arg))?;
            shadowed::apply(&budget.shadows, name, &args, |args| {
                let made = filter.call(state, args);
                made.or_else(|e| filters::number_or_default(&budget, name, args).ok_or(e))
            })
        });
    }
    for (name, filter) in filters::OWN {
        let budget = budget.clone();
        env.add_filter(name, move |args: All| {
            let args = args.into_values();
            if !filters::SHALLOW.contains(&name) {
                args.iter().try_for_each(|arg| budget.pay(arg))?;
            }
            filter(&budget, &args)
        });
    }
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
                let args = args.into_values();
                args.iter().try_for_each(|arg| budget.pay(arg))?;
                let plain: Vec<Value> = args.iter().map(|arg| shadowed::plain(&budget.shadows, arg)).collect();
                test.call(state, &plain).map(|v| v.is_true())
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
        return filters::join(budget, &[items.clone(), separator.clone()]);
    }
    if value.kind() == ValueKind::Map {
        let key = args.first().map(|key| shadowed::lift_key(&budget.shadows, key));
        let args: Vec<Value> = key.into_iter().chain(args.iter().skip(1).cloned()).collect();
        return pycompat::unknown_method_callback(state, value, method, &args);
    }
    shadowed::apply(&budget.shadows, method, &all, |all| {
        if let Some(result) = all[0].as_str().and_then(|text| methods::call(budget, text, method, &all[1..])) {
            return result;
        }
        filters::reserve(budget, method, all)?;
        pycompat::unknown_method_callback(state, &all[0], method, &all[1..])
    })
}
