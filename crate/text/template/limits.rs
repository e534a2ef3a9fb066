//! What a template may cost: a shared account that every operation on a big value pays from.
//!
//! Instructions are counted by minijinja ("fuel"); it does not see that one instruction can double a string. So each
//! value that an operation makes or reads through is paid for by its size. The total bounds both time and memory.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::super::shadow::Shadows;

/// Longer than any chat template that was published; the longest seen is 20 KB.
pub const MAX_SOURCE: usize = 1 << 20;
/// Levels of a syntax tree, as `source` counts them. Published templates have up to 58. In wasm a level takes some 250
/// bytes of the stack, 480 at most (blocks in blocks, which recurse once more when they run), so all take a quarter of the
/// 1 MiB that a page's worker has. V8 takes about the same of its own.
pub const SYNTAX_DEPTH: usize = 512;
/// Text of a render: some eight million tokens.
pub const MAX_OUTPUT: usize = 32 << 20;
/// Instructions of a render. A message costs a few hundred in the most complicated templates.
pub const FUEL: u64 = 2_000_000;
/// Bytes of values made and read, all together.
const TOTAL: u64 = 96 << 20;
/// One string or one list that an expression makes. (Values of the host may be longer.)
pub const MAX_VALUE: usize = 16 << 20;
/// Lists and maps inside each other. Each level is a native stack frame when a value is compared, printed or dropped.
const MAX_DEPTH: usize = 64;
/// Levels of values that are kept in namespaces, loops, cyclers and joiners, all together: their depth is unknown, since
/// what they hold changes or is hidden.
const MAX_HELD: u64 = 128;
/// What an element of a list costs, and the least that anything costs.
pub const ELEMENT: usize = 32;
/// What looking into a list or map costs, beside its elements.
const CONTAINER: usize = 128;
/// minijinja's measure of nested loops, blocks and macro calls, each of which takes native stack.
pub const RECURSION: usize = 120;

pub struct Budget {
    left: AtomicU64,
    held: AtomicU64,
    exceeded: AtomicBool,
    /// The text of `raise_exception`.
    pub raised: Mutex<Option<String>>,
    /// Here because every operation has the account at hand.
    pub shadows: Shadows,
}

impl Budget {
    pub fn new(shadows: Shadows) -> Self {
        Self {
            left: AtomicU64::new(TOTAL),
            held: AtomicU64::new(0),
            exceeded: AtomicBool::new(false),
            raised: Mutex::new(None),
            shadows,
        }
    }

    pub fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    pub fn exceed(&self, what: &str) -> Error {
        self.exceeded.store(true, Ordering::Relaxed);
        Error::new(ErrorKind::InvalidOperation, what.to_owned())
    }

    pub fn charge(&self, bytes: usize) -> Result<(), Error> {
        // A render runs on one thread, so load and store are enough.
        let left = self.left.load(Ordering::Relaxed);
        match left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left.store(left, Ordering::Relaxed);
                Ok(())
            }
            None => Err(self.exceed("the template makes or reads too much data")),
        }
    }

    /// Refuses a value before it is made.
    pub fn reserve(&self, bytes: Option<usize>) -> Result<(), Error> {
        match bytes {
            Some(bytes) if bytes <= MAX_VALUE => self.charge(bytes),
            _ => Err(self.exceed("the template makes a value that is too big")),
        }
    }

    /// Pays for a value and everything in it; what hides an unfinished computation becomes a list.
    pub fn settle(&self, value: Value) -> Result<Value, Error> {
        if value.kind() == ValueKind::Iterable {
            self.reserve(value.len().unwrap_or(0).checked_mul(ELEMENT))?;
            let list: Vec<Value> = value.try_iter()?.collect();
            return self.settle(Value::from(list));
        }
        match value.as_str() {
            Some(text) => self.charge(text.len() + ELEMENT)?,
            // The strings inside were paid for when they were made.
            None => self.walk(&value, 0, |_| ELEMENT)?,
        }
        Ok(value)
    }

    /// Pays for an operation that looks at the elements of a list but not into them.
    pub fn pay_shallow(&self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.charge(text.len() + ELEMENT),
            None => self.charge(value.len().unwrap_or(0).saturating_mul(ELEMENT) + ELEMENT),
        }
    }

    /// Pays for an operation that reads the whole value.
    pub fn pay(&self, value: &Value) -> Result<(), Error> {
        self.walk(value, 0, |text| text.len() + ELEMENT)
    }

    /// Bounds what something that hides its depth may hold. A chain of such holders would overflow the stack when it is
    /// dropped.
    pub fn hold(&self, value: &Value) -> Result<(), Error> {
        let held = self.held.load(Ordering::Relaxed) + self.deepest_holder(value, 1)?;
        self.held.store(held, Ordering::Relaxed);
        if held > MAX_HELD { Err(self.exceed("the template nests namespaces or loops too deep")) } else { Ok(()) }
    }

    /// The level of the deepest holder in a value, zero without one.
    fn deepest_holder(&self, value: &Value, level: u64) -> Result<u64, Error> {
        let Some(object) = value.as_object().filter(|_| value.as_str().is_none()) else { return Ok(0) };
        if ["::Namespace", "::Loop", "::Cycler", "::Joiner"].iter().any(|name| object.type_name().ends_with(name)) {
            return Ok(level);
        }
        if level > MAX_DEPTH as u64 {
            return Err(self.exceed("the template nests lists or maps too deep"));
        }
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
            return Ok(0);
        }
        self.charge(value.len().unwrap_or(0) + 1)?;
        let mut deepest = 0;
        for item in value.try_iter()? {
            deepest = deepest.max(self.deepest_holder(&item, level + 1)?);
            if value.kind() == ValueKind::Map {
                deepest = deepest.max(self.deepest_holder(&value.get_item(&item)?, level + 1)?);
            }
        }
        Ok(deepest)
    }

    fn walk(&self, value: &Value, depth: usize, cost: fn(&str) -> usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(self.exceed("the template nests lists or maps too deep"));
        }
        if let Some(text) = value.as_str() {
            return self.charge(cost(text));
        }
        let container = matches!(value.kind(), ValueKind::Seq | ValueKind::Map);
        self.charge(if container { CONTAINER } else { ELEMENT })?;
        match value.kind() {
            ValueKind::Seq => {
                for item in value.try_iter()? {
                    self.walk(&item, depth + 1, cost)?;
                }
            }
            ValueKind::Map => {
                for key in value.try_iter()? {
                    self.walk(&key, depth + 1, cost)?;
                    self.walk(&value.get_item(&key)?, depth + 1, cost)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
