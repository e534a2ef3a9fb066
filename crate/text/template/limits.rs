//! The budget of a template: every operation on a large value is charged to a shared account.
//!
//! Instructions are counted by minijinja ("fuel"); it does not see that one instruction can double a string. So each
//! value that an operation makes or reads through is paid for by its size. The total bounds both time and memory.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::super::shadow::Shadows;

/// Longer than any chat template that was published; the longest seen is 20 KB.
pub(super) const MAX_SOURCE: usize = 1 << 20;
/// Levels of a syntax tree, as `source` counts them. Published templates have up to 58. In wasm a level takes some 250
/// bytes of the stack, 480 at most (blocks in blocks, which recurse once more when they run), so all take a quarter of the
/// 1 MiB that a page's worker has. V8 takes about the same of its own.
pub(super) const SYNTAX_DEPTH: usize = 512;
/// Text of a render: some eight million tokens.
pub(super) const MAX_OUTPUT: usize = 32 << 20;
/// Instructions of a render. A message costs a few hundred in the most complicated templates.
pub(super) const FUEL: u64 = 2_000_000;
/// Bytes of values made and read, all together.
const TOTAL: u64 = 96 << 20;
/// One string or one list that an expression makes. (Values of the host may be longer.)
pub(super) const MAX_VALUE: usize = 16 << 20;
/// Lists and maps inside each other. Each level is a native stack frame when a value is compared, printed or dropped.
const MAX_DEPTH: usize = 64;
/// What an element of a list costs, and the least that anything costs.
pub(super) const ELEMENT: usize = 32;
/// What looking into a list or map costs, beside its elements.
const CONTAINER: usize = 128;
/// Objects whose attributes change.
pub(super) const CHANGING: [&str; 2] = ["::Namespace", "::Loop"];
/// Objects that change or hide what they hold.
pub(super) const HOLDERS: [&str; 4] = ["::Namespace", "::Loop", "::Cycler", "::Joiner"];
/// minijinja's measure of nested loops, blocks and macro calls, each of which takes native stack.
pub(super) const RECURSION: usize = 120;

pub(super) struct Budget {
    left: AtomicU64,
    exceeded: AtomicBool,
    /// The text of `raise_exception`.
    pub raised: Mutex<Option<String>>,
    /// Here because every operation has the account at hand.
    pub shadows: Shadows,
}

impl Budget {
    pub(super) fn new(shadows: Shadows) -> Self {
        Self { left: AtomicU64::new(TOTAL), exceeded: AtomicBool::new(false), raised: Mutex::new(None), shadows }
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    pub(super) fn exceed(&self, what: &str) -> Error {
        self.exceeded.store(true, Ordering::Relaxed);
        Error::new(ErrorKind::InvalidOperation, what.to_owned())
    }

    pub(super) fn charge(&self, bytes: usize) -> Result<(), Error> {
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
    pub(super) fn reserve(&self, bytes: Option<usize>) -> Result<(), Error> {
        match bytes {
            Some(bytes) if bytes <= MAX_VALUE => self.charge(bytes),
            _ => Err(self.exceed("the template makes a value that is too big")),
        }
    }

    /// Pays for a value and everything in it; what hides an unfinished computation becomes a list.
    pub(super) fn settle(&self, value: Value) -> Result<Value, Error> {
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
    pub(super) fn pay_shallow(&self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.charge(text.len() + ELEMENT),
            None => self.charge(value.len().unwrap_or(0).saturating_mul(ELEMENT) + ELEMENT),
        }
    }

    /// Pays for an operation that reads the whole value.
    pub(super) fn pay(&self, value: &Value) -> Result<(), Error> {
        self.walk(value, 0, |text| text.len() + ELEMENT)
    }

    /// Refuses what an object may not hold that changes or hides what is in it: objects whose names are `banned`. So no
    /// value contains itself and no chain of them grows, which would overflow the stack where it is hashed or dropped.
    pub(super) fn hold(&self, value: &Value, banned: &[&str]) -> Result<(), Error> {
        let Some(object) = value.as_object() else { return Ok(()) };
        if banned.iter().any(|name| object.type_name().ends_with(name)) {
            return Err(self.exceed("the template puts a namespace, loop, cycler or joiner into another"));
        }
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
            return Ok(());
        }
        self.charge(value.len().unwrap_or(0) + 1)?;
        for item in value.try_iter()? {
            self.hold(&item, banned)?;
            if value.kind() == ValueKind::Map {
                self.hold(&value.get_item(&item)?, banned)?;
            }
        }
        Ok(())
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
