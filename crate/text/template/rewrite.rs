//! Puts our guards into a compiled template.
//!
//! minijinja can limit the number of instructions but not what one of them makes. So, between its compiler and its
//! interpreter, the instructions that make or compare values are replaced by calls of our own functions, and the
//! result of every other one that can make something big is handed to a function that pays for it.

use minijinja::Value;
use minijinja::machinery::{Instruction, Instructions};

/// Names of the guards. No template can call or assign them: a space is in no identifier.
pub(super) const CONCAT: &str = "op ~";
pub(super) const ADD: &str = "op +";
pub(super) const MUL: &str = "op *";
pub(super) const NEG: &str = "op -";
pub(super) const ITEM: &str = "op []";
pub(super) const SLICE: &str = "op [:]";
pub(super) const SETTLE: &str = "op settle";
pub(super) const HOLD: &str = "op .=";
pub(super) const UNPACK: &str = "op *args";
pub(super) const CHANGED: &str = "op .changed";
pub(super) const CYCLE: &str = "op .cycle";
pub(super) const MAP: &str = "op {}";
pub(super) const PLAIN: &str = "op plain";
pub(super) const COMPARE: [&str; 7] = ["op ==", "op !=", "op <", "op <=", "op >", "op >=", "op in"];

/// A filter that does nothing: it keeps minijinja from folding constants.
pub(super) const UNFOLDED: &str = "__";

/// The same program with guards; `None` where a jump leads nowhere.
pub(super) fn guard<'s>(old: &Instructions<'s>) -> Option<Instructions<'s>> {
    let depths = depths(old);
    let mut new: Vec<(Instruction, u16)> = Vec::new();
    let mut moved = Vec::new();
    // What ends the scopes that are open.
    let mut open: Vec<&[Instruction]> = Vec::new();
    for (at, instruction) in all(old).enumerate() {
        let line = old.get_line(at as u32).unwrap_or(0) as u16;
        moved.push(new.len() as u32);
        if let Instruction::Jump(to) = instruction {
            // `break` and `continue` leave the scopes that they jump out of.
            let outer = depths.get(*to as usize)?;
            let left = open.iter().skip(*outer).rev().copied().flatten();
            new.extend(left.map(|end| (end.clone(), line)));
        }
        new.extend(guarded(instruction).into_iter().map(|instruction| (instruction, line)));
        match scope(instruction) {
            Scope::Starts(end) => open.push(end),
            Scope::Ends => drop(open.pop()),
            Scope::None => {}
        }
    }
    moved.push(new.len() as u32);
    let mut fixed = Instructions::new(old.name(), old.source());
    for (mut instruction, line) in new {
        if let Some(target) = target(&mut instruction) {
            *target = *moved.get(*target as usize)?;
        }
        fixed.add_with_line(instruction, line);
    }
    Some(fixed)
}

fn all<'i, 's>(program: &'i Instructions<'s>) -> impl Iterator<Item = &'i Instruction<'s>> {
    (0..).map_while(|at| program.get(at))
}

enum Scope {
    /// With the instructions that end it early.
    Starts(&'static [Instruction<'static>]),
    Ends,
    None,
}

fn scope(instruction: &Instruction) -> Scope {
    match instruction {
        Instruction::PushLoop(_) => Scope::Starts(&[]),
        Instruction::PushWith => Scope::Starts(&[Instruction::PopFrame]),
        Instruction::PushAutoEscape => Scope::Starts(&[Instruction::PopAutoEscape]),
        Instruction::BeginCapture(_) => Scope::Starts(&[Instruction::EndCapture, Instruction::DiscardTop]),
        Instruction::PopLoopFrame | Instruction::PopFrame | Instruction::PopAutoEscape | Instruction::EndCapture => {
            Scope::Ends
        }
        _ => Scope::None,
    }
}

/// How many scopes are open before each instruction, and after the last.
fn depths(program: &Instructions) -> Vec<usize> {
    let mut depths = vec![0];
    let mut depth: usize = 0;
    for instruction in all(program) {
        match scope(instruction) {
            Scope::Starts(_) => depth += 1,
            Scope::Ends => depth = depth.saturating_sub(1),
            Scope::None => {}
        }
        depths.push(depth);
    }
    depths
}

/// What stands in the place of an instruction.
fn guarded<'s>(instruction: &Instruction<'s>) -> Vec<Instruction<'s>> {
    let same = || instruction.clone();
    let call = |name, arguments| Instruction::CallFunction(name, Some(arguments));
    let settle = || call(SETTLE, 1);
    match instruction {
        // Literal text goes the way of all values, through the formatter, where it is paid for.
        Instruction::EmitRaw(text) => vec![Instruction::LoadConst(Value::from(*text)), Instruction::Emit],
        Instruction::ApplyFilter(UNFOLDED, ..) => vec![],
        Instruction::Slice => vec![call(SLICE, 4)],
        Instruction::StringConcat => vec![call(CONCAT, 2)],
        Instruction::Add => vec![call(ADD, 2)],
        Instruction::Mul => vec![call(MUL, 2)],
        Instruction::Neg => vec![call(NEG, 1)],
        Instruction::GetItem => vec![call(ITEM, 2)],
        Instruction::Eq => vec![call(COMPARE[0], 2)],
        Instruction::Ne => vec![call(COMPARE[1], 2)],
        Instruction::Lt => vec![call(COMPARE[2], 2)],
        Instruction::Lte => vec![call(COMPARE[3], 2)],
        Instruction::Gt => vec![call(COMPARE[4], 2)],
        Instruction::Gte => vec![call(COMPARE[5], 2)],
        Instruction::In => vec![call(COMPARE[6], 2)],
        // The value lies under the namespace.
        Instruction::SetAttr(_) => vec![Instruction::Swap, call(HOLD, 1), Instruction::Swap, same()],
        Instruction::UnpackLists(lists) => vec![call(UNPACK, *lists as u16), Instruction::UnpackLists(1)],
        // A loop answers these itself, without asking us.
        Instruction::CallMethod("changed", arguments) => vec![Instruction::CallFunction(CHANGED, *arguments), settle()],
        Instruction::CallMethod("cycle", arguments) => vec![Instruction::CallFunction(CYCLE, *arguments), settle()],
        Instruction::PushLoop(_) | Instruction::UnpackList(_) => vec![settle(), same()],
        // Both sides of it are on the stack.
        Instruction::CompareAndPreserve(_) => {
            vec![settle(), call(PLAIN, 1), Instruction::Swap, call(PLAIN, 1), Instruction::Swap, same()]
        }
        Instruction::BuildMap(_) => vec![same(), call(MAP, 1), settle()],
        Instruction::BuildKwargs(_)
        | Instruction::MergeKwargs(_)
        | Instruction::BuildList(_)
        | Instruction::BuildTuple(_)
        | Instruction::ApplyFilter(..)
        | Instruction::CallFunction(..)
        | Instruction::CallMethod(..)
        | Instruction::CallObject(_)
        | Instruction::EndCapture => vec![same(), settle()],
        _ => vec![same()],
    }
}

/// Where an instruction may jump to.
fn target<'i>(instruction: &'i mut Instruction) -> Option<&'i mut u32> {
    match instruction {
        Instruction::Jump(to)
        | Instruction::JumpIfFalse(to)
        | Instruction::JumpIfFalseOrPop(to)
        | Instruction::JumpIfTrueOrPop(to)
        | Instruction::Iterate(to)
        | Instruction::BuildMacro(_, to, _) => Some(to),
        _ => None,
    }
}
