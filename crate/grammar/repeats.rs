//! How often regular expressions repeat things. Their states are made as they are met, so a number in braces costs nothing
//! at first; but what must come next is followed to its end, however far that is.

use crate::bail;
use crate::error::Result;

/// The most times that anything may be repeated, by all counters around it together, and the most characters that a text
/// must have.
pub(super) const MOST: u64 = 10_000;

/// Refuses expressions with counters beyond the limit. Reads any notation with groups in brackets and counters in braces.
pub(super) fn check(text: &str) -> Result<()> {
    // The largest product in each open group, and that of the last atom.
    let (mut groups, mut last) = (vec![1_u64], 1_u64);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                rest.next();
                last = 1;
            }
            '(' | '[' => groups.push(1),
            ')' | ']' if groups.len() > 1 => {
                last = groups.pop().unwrap_or(1);
                raise(&mut groups, last);
            }
            '{' => {
                let inside = rest.as_str().split('}').next().unwrap_or_default();
                let number = |n: &str| n.trim().parse().ok();
                if let Some(times) = inside.split(',').filter_map(number).max() {
                    rest = rest.as_str().get(inside.len() + 1..).unwrap_or_default().chars();
                    last = last.saturating_mul(times);
                    raise(&mut groups, last);
                }
            }
            '?' | '*' | '+' => {}
            _ => last = 1,
        }
        if last > MOST {
            bail!(BadGrammar, "a part of an expression is repeated {last} times, at most {MOST} are allowed");
        }
    }
    Ok(())
}

fn raise(groups: &mut [u64], to: u64) {
    if let Some(most) = groups.last_mut() {
        *most = to.max(*most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_around_each_other_are_multiplied() {
        for fine in [
            "a{10000}",
            "(a{100}){100}",
            "a{100}b{10000}",
            r"\(a{100}\){1000}",
            "[a{]{9}",
            "a{,3}{2}",
            "}{)]({",
            "x{a}{99999999999999999999}",
        ] {
            assert!(check(fine).is_ok(), "{fine}");
        }
        for bad in [
            "a{10001}",
            "a{200}{200}",
            "a{200}?{200}",
            "(a{101}){100}",
            "((a|b{9,}){2}c{0,600}){1,20}",
            "((a{100}))((b{100})c){101}",
            "a{3,20000}",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
