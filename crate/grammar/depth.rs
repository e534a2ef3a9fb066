//! How deep rules of a grammar in Lark's notation lead into each other: its compiler goes along with them on its stack.

use std::collections::HashMap;

use crate::bail;
use crate::error::Result;

/// Brackets and rules inside each other, on the way that a compiler takes through the rules. Each level takes some kilobytes
/// of a stack, of which a page has one megabyte.
const MOST: usize = 250;

#[derive(Default)]
struct Rules<'t> {
    numbers: HashMap<&'t str, usize>,
    /// What each leads to, in order, and in how many brackets that stands.
    to: Vec<Vec<(usize, usize)>>,
}

impl<'t> Rules<'t> {
    fn number(&mut self, name: &'t str) -> usize {
        let next = self.to.len();
        let number = *self.numbers.entry(name).or_insert(next);
        if number == next {
            self.to.push(Vec::new());
        }
        number
    }
}

/// The length of a text in quotation marks, or of an expression between slashes.
fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    let is_end = |c: char| {
        let ends = !escaped && c == mark;
        escaped = !escaped && c == '\\';
        ends
    };
    text[1..].find(is_end).map_or(text.len(), |end| end + 2)
}

/// Refuses grammars whose rules or brackets lead too deep.
pub(super) fn check(lark: &str) -> Result<()> {
    let mut rules = Rules::default();
    let (mut at, mut brackets, mut is_start, mut current) = (0, 0, true, None);
    while let Some(c) = lark[at..].chars().next() {
        let rest = &lark[at..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        at += match c {
            '"' => quoted(rest, '"'),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' => quoted(rest, '/'),
            c if is_word(c) => {
                let name = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
                let number = rules.number(name);
                match current {
                    _ if is_start && brackets == 0 => current = Some(number),
                    Some(from) => rules.to[from].push((number, brackets)),
                    None => {}
                }
                name.len()
            }
            c => {
                match c {
                    '(' | '[' | '{' => brackets += 1,
                    ')' | ']' | '}' => brackets = brackets.saturating_sub(1),
                    _ => {}
                }
                c.len_utf8()
            }
        };
        if brackets > MOST {
            bail!(BadGrammar, "it has more than {MOST} brackets inside each other");
        }
        is_start = c == '\n' || (is_start && matches!(c, ' ' | '\t' | '\r' | '!' | '?'));
    }
    let Some(start) = rules.numbers.get("start") else { return Ok(()) };
    let mut met = vec![false; rules.to.len()];
    // Rules that are open, how many of what they lead to was looked at, and how deep they are.
    let mut open = vec![(*start, 0, 0)];
    met[*start] = true;
    while let Some((rule, next, depth)) = open.last_mut() {
        let Some((to, brackets)) = rules.to[*rule].get(*next) else {
            open.pop();
            continue;
        };
        *next += 1;
        let depth = *depth + 1 + brackets;
        if !std::mem::replace(&mut met[*to], true) {
            if depth > MOST {
                bail!(BadGrammar, "its rules lead more than {MOST} rules deep into each other; make some of them one");
            }
            open.push((*to, 0, depth));
        }
    }
    Ok(())
}
