//! Puts our guards into a compiled template.
//!
//! minijinja can limit the number of instructions but not what one of them makes. So, between its compiler and its
//! interpreter, the instructions that make or compare values are replaced by calls of our own functions, and the
//! result of every other one that can make something big is handed to a function that pays for it.

use minijinja::Value;
use minijinja::machinery::{Instruction, Instructions};

/// Names of the guards. No template can call or assign them: a space is in no identifier.
pub const CONCAT: &str = "op ~";
pub const ADD: &str = "op +";
pub const MUL: &str = "op *";
pub const ITEM: &str = "op []";
pub const SLICE: &str = "op [:]";
pub const SETTLE: &str = "op settle";
pub const MAP: &str = "op {}";
pub const PLAIN: &str = "op plain";
pub const COMPARE: [&str; 7] = ["op ==", "op !=", "op <", "op <=", "op >", "op >=", "op in"];

enum Place {
    Alone,
    Before,
    After,
}

/// The same program with guards; `None` where a jump leads nowhere.
pub fn guard<'s>(old: &Instructions<'s>) -> Option<Instructions<'s>> {
    let mut new = Instructions::new(old.name(), old.source());
    let mut moved = Vec::new();
    let mut at = 0;
    while let Some(instruction) = old.get(at) {
        let line = old.get_line(at).unwrap_or(0) as u16;
        moved.push(new.add_with_line(Instruction::DiscardTop, line));
        let first = *moved.last()?;
        let settle = || Instruction::CallFunction(SETTLE, Some(1));
        if let Instruction::EmitRaw(text) = instruction {
            // Literal text goes the way of all values, through the formatter, where it is paid for.
            *new.get_mut(first)? = Instruction::LoadConst(Value::from(*text));
            new.add_with_line(Instruction::Emit, line);
        } else if let Instruction::CompareAndPreserve(_) = instruction {
            // Both sides of it are on the stack.
            *new.get_mut(first)? = Instruction::CallFunction(PLAIN, Some(1));
            for next in [Instruction::Swap, Instruction::CallFunction(PLAIN, Some(1)), Instruction::Swap] {
                new.add_with_line(next, line);
            }
            new.add_with_line(instruction.clone(), line);
        } else {
            let replaced = replacement(instruction).unwrap_or_else(|| instruction.clone());
            match place(instruction) {
                Place::Alone => *new.get_mut(first)? = replaced,
                Place::Before => {
                    *new.get_mut(first)? = settle();
                    new.add_with_line(replaced, line);
                }
                Place::After => {
                    *new.get_mut(first)? = replaced;
                    if let Instruction::BuildMap(_) = instruction {
                        new.add_with_line(Instruction::CallFunction(MAP, Some(1)), line);
                    }
                    new.add_with_line(settle(), line);
                }
            }
        }
        at += 1;
    }
    let end = new.add(Instruction::PushDidNotIterate);
    moved.push(end);
    let mut fixed = Instructions::new(old.name(), old.source());
    for i in 0..end {
        let mut instruction = new.get(i)?.clone();
        if let Some(target) = target(&mut instruction) {
            *target = *moved.get(*target as usize)?;
        }
        fixed.add_with_line(instruction, new.get_line(i).unwrap_or(0) as u16);
    }
    Some(fixed)
}

fn replacement<'s>(instruction: &Instruction<'s>) -> Option<Instruction<'s>> {
    let name = match instruction {
        Instruction::Slice => return Some(Instruction::CallFunction(SLICE, Some(4))),
        Instruction::StringConcat => CONCAT,
        Instruction::Add => ADD,
        Instruction::Mul => MUL,
        Instruction::GetItem => ITEM,
        Instruction::Eq => COMPARE[0],
        Instruction::Ne => COMPARE[1],
        Instruction::Lt => COMPARE[2],
        Instruction::Lte => COMPARE[3],
        Instruction::Gt => COMPARE[4],
        Instruction::Gte => COMPARE[5],
        Instruction::In => COMPARE[6],
        _ => return None,
    };
    Some(Instruction::CallFunction(name, Some(2)))
}

fn place(instruction: &Instruction) -> Place {
    match instruction {
        Instruction::PushLoop(_) | Instruction::UnpackList(_) => Place::Before,
        Instruction::BuildMap(_)
        | Instruction::BuildList(_)
        | Instruction::BuildTuple(_)
        | Instruction::ApplyFilter(..)
        | Instruction::CallFunction(..)
        | Instruction::CallMethod(..)
        | Instruction::CallObject(_)
        | Instruction::EndCapture => Place::After,
        _ => Place::Alone,
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
