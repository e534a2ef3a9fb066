//! Who has which part of the backend's cache. Blocks and slots are numbers of a pool; one is free again when the last
//! sequence that holds it lets go, so nothing can leak.

use std::cell::RefCell;
use std::rc::Rc;

/// Numbers below a limit, each free or held.
pub(super) struct Pool(Rc<RefCell<Numbers>>);

struct Numbers {
    limit: usize,
    /// How many hold each number that was ever taken.
    holders: Vec<u32>,
    /// Those that nobody holds.
    free: Vec<u32>,
}

/// One number. Clones share it.
pub(super) struct Held {
    id: u32,
    pool: Rc<RefCell<Numbers>>,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        let numbers = Numbers { limit, holders: Vec::with_capacity(limit), free: Vec::with_capacity(limit) };
        Self(Rc::new(RefCell::new(numbers)))
    }

    /// A number that nobody holds: one that was used before if there is one, so that backends grow late.
    pub(super) fn take(&self) -> Option<Held> {
        let mut n = self.0.borrow_mut();
        let id = match n.free.pop() {
            Some(id) => id,
            None if n.holders.len() < n.limit => {
                n.holders.push(0);
                n.holders.len() as u32 - 1
            }
            None => return None,
        };
        n.holders[id as usize] = 1;
        Some(Held { id, pool: self.0.clone() })
    }

    /// How many are held.
    pub(super) fn held(&self) -> usize {
        let n = self.0.borrow();
        n.holders.len() - n.free.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.0.borrow().limit
    }
}

impl Held {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// How many hold it.
    pub(super) fn holders(&self) -> u32 {
        self.pool.borrow().holders[self.id as usize]
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        self.pool.borrow_mut().holders[self.id as usize] += 1;
        Self { id: self.id, pool: self.pool.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut n = self.pool.borrow_mut();
        n.holders[self.id as usize] -= 1;
        if n.holders[self.id as usize] == 0 {
            n.free.push(self.id);
        }
    }
}
