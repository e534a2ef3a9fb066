//! Writes rules in Lark's notation.

use std::fmt::Write;

use super::node::Node;
use crate::bail;
use crate::error::Result;
use crate::grammar::literal::literal;
use crate::grammar::repeats::MOST;

/// The characters that a text can start with, as far as that matters.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Start {
    one: Option<char>,
    /// There are several.
    many: bool,
    /// The text may be empty.
    empty: bool,
}

impl Start {
    fn or(self, other: Self) -> Self {
        let many = self.many || other.many || (self.one.is_some() && other.one.is_some() && self.one != other.one);
        Self { one: self.one.or(other.one), many, empty: self.empty || other.empty }
    }

    fn then(self, next: Self) -> Self {
        if self.empty { Self { empty: next.empty, ..self.or(next) } } else { self }
    }
}

struct Writer<'r> {
    rules: &'r [Node],
    /// Those that lead neither to themselves nor to a token.
    regular: Vec<bool>,
    /// Regular rules that are nothing but white space.
    blank: Vec<bool>,
    /// Regular rules that may end in white space.
    tails: Vec<bool>,
    /// What regular rules start with.
    starts: Vec<Start>,
    /// Regular rules with a loop that a terminal might never leave.
    traps: Vec<bool>,
    /// How often a regular rule repeats something, by all counters around it.
    times: Vec<u64>,
    out: String,
    terminals: usize,
}

/// The grammar, of which `root` is the start.
pub(super) fn lark(rules: &[Node], root: usize) -> Result<String> {
    let mut writer = Writer {
        rules,
        regular: vec![false; rules.len()],
        blank: vec![false; rules.len()],
        tails: vec![false; rules.len()],
        starts: vec![Start::default(); rules.len()],
        traps: vec![false; rules.len()],
        times: vec![1; rules.len()],
        out: String::new(),
        terminals: 0,
    };
    writer.find_regular()?;
    let start = if writer.regular[root] { format!("R{root}") } else { format!("r{root}") };
    writeln!(writer.out, "start: {start}").expect("writing to a string");
    for (i, rule) in rules.iter().enumerate() {
        if writer.regular[i] {
            let body = writer.terminal(rule);
            writeln!(writer.out, "R{i}: {body}").expect("writing to a string");
        }
        if !writer.is_whole(&Node::Rule(i)) {
            let body = writer.rule_body(rule);
            writeln!(writer.out, "r{i}: {body}").expect("writing to a string");
        }
    }
    Ok(writer.out)
}

/// All rules that a node names.
fn named(node: &Node, to: &mut impl FnMut(usize)) {
    match node {
        Node::Rule(i) => to(*i),
        Node::Row(nodes) | Node::Either(nodes) => nodes.iter().for_each(|node| named(node, to)),
        Node::Times(node, ..) => named(node, to),
        Node::Text(_) | Node::Class(..) | Node::Token(_) => {}
    }
}

fn has_token(node: &Node) -> bool {
    match node {
        Node::Token(_) => true,
        Node::Row(nodes) | Node::Either(nodes) => nodes.iter().any(has_token),
        Node::Times(node, ..) => has_token(node),
        Node::Text(_) | Node::Class(..) | Node::Rule(_) => false,
    }
}

impl Writer<'_> {
    /// From the rules that name no others upwards.
    fn find_regular(&mut self) -> Result<()> {
        let mut users = vec![Vec::new(); self.rules.len()];
        let mut open = vec![0; self.rules.len()];
        for (i, rule) in self.rules.iter().enumerate() {
            named(rule, &mut |of| {
                users[of].push(i);
                open[i] += 1;
            });
        }
        let mut ready: Vec<usize> = (0..self.rules.len()).filter(|i| open[*i] == 0).collect();
        while let Some(i) = ready.pop() {
            if has_token(&self.rules[i]) {
                continue;
            }
            self.regular[i] = true;
            (self.blank[i], self.tails[i]) = (self.is_blank(&self.rules[i]), self.may_tail(&self.rules[i]));
            (self.starts[i], self.traps[i]) = (self.start(&self.rules[i]), self.is_trap(&self.rules[i]));
            self.times[i] = self.count(&self.rules[i])?;
            for user in &users[i] {
                open[*user] -= 1;
                if open[*user] == 0 {
                    ready.push(*user);
                }
            }
        }
        (0..self.rules.len()).filter(|i| !self.regular[*i]).try_for_each(|i| self.count(&self.rules[i]).map(|_| ()))
    }

    fn count(&self, node: &Node) -> Result<u64> {
        let times = match node {
            Node::Text(_) | Node::Class(..) | Node::Token(_) => 1,
            Node::Rule(i) => self.times[*i],
            Node::Row(nodes) | Node::Either(nodes) => {
                nodes.iter().try_fold(1, |most, node| Ok(self.count(node)?.max(most)))?
            }
            Node::Times(node, least, most) => {
                self.count(node)?.saturating_mul(u64::from(most.unwrap_or(*least).max(1)))
            }
        };
        if times > MOST {
            bail!(BadGrammar, "a part of it is repeated {times} times, at most {MOST} are allowed");
        }
        Ok(times)
    }

    fn is_regular(&self, node: &Node) -> bool {
        match node {
            Node::Rule(i) => self.regular[*i],
            Node::Token(_) => false,
            Node::Text(_) | Node::Class(..) => true,
            Node::Row(nodes) | Node::Either(nodes) => nodes.iter().all(|node| self.is_regular(node)),
            Node::Times(node, ..) => self.is_regular(node),
        }
    }

    /// Whether a regular node is nothing but white space.
    fn is_blank(&self, node: &Node) -> bool {
        let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r');
        match node {
            Node::Text(text) => text.chars().all(space),
            Node::Class(negated, ranges) => !negated && ranges.iter().all(|(a, b)| a == b && space(*a)),
            Node::Token(_) => false,
            Node::Rule(i) => self.blank[*i],
            Node::Row(nodes) | Node::Either(nodes) => nodes.iter().all(|node| self.is_blank(node)),
            Node::Times(node, ..) => self.is_blank(node),
        }
    }

    /// Whether a regular node may end in white space.
    fn may_tail(&self, node: &Node) -> bool {
        match node {
            Node::Rule(i) => self.tails[*i],
            Node::Row(nodes) => nodes.last().is_some_and(|node| self.may_tail(node)),
            Node::Either(nodes) => nodes.iter().any(|node| self.may_tail(node)),
            Node::Times(node, ..) => self.may_tail(node),
            _ => self.is_blank(node),
        }
    }

    fn start(&self, node: &Node) -> Start {
        match node {
            Node::Text(text) => Start { one: text.chars().next(), many: false, empty: text.is_empty() },
            Node::Class(negated, ranges) => {
                let single =
                    ranges.first().filter(|(a, b)| !negated && ranges.iter().all(|range| range == &(*a, *a) && a == b));
                Start { one: single.map(|(a, _)| *a), many: single.is_none(), empty: false }
            }
            Node::Token(_) => Start { many: true, ..Start::default() },
            Node::Rule(i) => self.starts[*i],
            Node::Row(nodes) => {
                nodes.iter().fold(Start { empty: true, ..Start::default() }, |s, node| s.then(self.start(node)))
            }
            Node::Either(nodes) => nodes.iter().fold(Start::default(), |s, node| s.or(self.start(node))),
            Node::Times(node, least, _) => {
                let start = self.start(node);
                Start { empty: start.empty || *least == 0, ..start }
            }
        }
    }

    /// Whether a regular node has a loop that always starts with the same character. Where what follows starts with that too,
    /// a terminal would go on for ever, since it is as long as it can be.
    fn is_trap(&self, node: &Node) -> bool {
        match node {
            Node::Rule(i) => self.traps[*i],
            Node::Row(nodes) | Node::Either(nodes) => nodes.iter().any(|node| self.is_trap(node)),
            Node::Times(node, _, most) => self.is_trap(node) || (most.is_none() && !self.start(node).many),
            Node::Text(_) | Node::Class(..) | Node::Token(_) => false,
        }
    }

    /// Whether a node becomes one terminal. One that ends in white space would take that from what follows, where that may
    /// start with it.
    fn is_whole(&self, node: &Node) -> bool {
        self.is_regular(node) && !self.may_tail(node) && !self.is_trap(node)
    }

    /// White space character by character, so that any of it may belong to what follows.
    fn spaces(&mut self, node: &Node) -> String {
        match node {
            Node::Text(text) => {
                let signs: Vec<_> = text.chars().map(|c| literal(c.encode_utf8(&mut [0; 4]))).collect();
                if signs.is_empty() { "\"\"".to_owned() } else { group(&signs, " ") }
            }
            Node::Class(negated, ranges) => class(*negated, ranges),
            Node::Rule(i) => format!("r{i}"),
            Node::Row(nodes) if nodes.is_empty() => "\"\"".to_owned(),
            Node::Row(nodes) => group(&nodes.iter().map(|node| self.spaces(node)).collect::<Vec<_>>(), " "),
            Node::Either(nodes) => group(&nodes.iter().map(|node| self.spaces(node)).collect::<Vec<_>>(), " | "),
            Node::Times(node, least, most) => times(&self.spaces(node), *least, *most),
            Node::Token(token) => token.clone(),
        }
    }

    /// A new terminal, by its name.
    fn new_terminal(&mut self, body: &str) -> String {
        self.terminals += 1;
        let name = format!("T{}", self.terminals);
        writeln!(self.out, "{name}: {body}").expect("writing to a string");
        name
    }

    /// A node of a rule, with what is regular in it as terminals.
    fn rule_body(&mut self, node: &Node) -> String {
        if self.is_whole(node) {
            let body = self.terminal(node);
            return self.new_terminal(&body);
        }
        if self.is_regular(node) && self.is_blank(node) {
            return self.spaces(node);
        }
        match node {
            Node::Rule(i) => format!("r{i}"),
            Node::Token(token) => token.clone(),
            Node::Row(nodes) => {
                let runs = nodes.chunk_by(|a, b| self.is_regular(a) && !self.is_trap(a) && self.is_whole(b));
                let runs: Vec<&[Node]> = runs.collect();
                let parts = runs.into_iter().map(|run| match run {
                    [one] => self.rule_body(one),
                    // All but the last may end in anything: what follows is in the same terminal.
                    _ => {
                        let row: Vec<_> = run.iter().map(|node| self.terminal(node)).collect();
                        self.new_terminal(&row.join(" "))
                    }
                });
                group(&parts.collect::<Vec<_>>(), " ")
            }
            Node::Either(nodes) => {
                let (regular, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| self.is_whole(node));
                let mut parts: Vec<_> = others.into_iter().map(|node| self.rule_body(node)).collect();
                if !regular.is_empty() {
                    let options: Vec<_> = regular.iter().map(|node| self.terminal(node)).collect();
                    parts.push(self.new_terminal(&group(&options, " | ")));
                }
                group(&parts, " | ")
            }
            Node::Times(node, least, most) => times(&self.rule_body(node), *least, *most),
            Node::Text(_) | Node::Class(..) => unreachable!("they are regular"),
        }
    }

    /// A node of a terminal.
    fn terminal(&self, node: &Node) -> String {
        match node {
            Node::Text(text) => literal(text),
            Node::Class(negated, ranges) => class(*negated, ranges),
            Node::Rule(i) => format!("R{i}"),
            Node::Row(nodes) if nodes.is_empty() => "\"\"".to_owned(),
            Node::Row(nodes) => group(&nodes.iter().map(|node| self.terminal(node)).collect::<Vec<_>>(), " "),
            Node::Either(nodes) => group(&nodes.iter().map(|node| self.terminal(node)).collect::<Vec<_>>(), " | "),
            Node::Times(node, least, most) => times(&self.terminal(node), *least, *most),
            Node::Token(_) => unreachable!("a token is not regular"),
        }
    }
}

fn group(parts: &[String], between: &str) -> String {
    format!("({})", parts.join(between))
}

fn times(body: &str, least: u32, most: Option<u32>) -> String {
    match (least, most) {
        (0, None) => format!("({body})*"),
        (1, None) => format!("({body})+"),
        (_, None) => format!("(({body})~{least} ({body})*)"),
        (_, Some(0)) => "\"\"".to_owned(),
        (0, Some(1)) => format!("({body})?"),
        (_, Some(most)) => format!("({body})~{least}..{most}"),
    }
}

/// Characters as a regular expression.
fn class(negated: bool, ranges: &[(char, char)]) -> String {
    if ranges.is_empty() {
        return "/(?s:.)/".to_owned();
    }
    let mut inside = String::new();
    for (first, last) in ranges {
        write!(inside, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(*first), u32::from(*last)).expect("writing to a string");
    }
    format!("/[{}{inside}]/", if negated { "^" } else { "" })
}
