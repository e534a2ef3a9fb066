//! An allocator that counts, per thread, so that tests beside each other do not disturb each other's counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static MADE: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends may free after its counters are gone; those bytes belong to no measurement.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MADE.try_with(|made| made.set(made.get() + usize::from(bytes > 0)));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator with the arguments it came with. Counting neither allocates (the
// counters are constant-initialised cells without destructors) nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps `dealloc`'s contract, and `ptr` came from the system's allocator.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both blocks may live at once while the bytes move.
        count(new_size as isize);
        // SAFETY: the caller keeps `realloc`'s contract, and `ptr` came from the system's allocator.
        let moved = unsafe { System.realloc(ptr, layout, new_size) };
        count(-(layout.size() as isize));
        moved
    }
}

/// What `f` returns, and the most bytes that this thread held above what it held before.
pub fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let value = f();
    (value, (PEAK.get() - before) as usize)
}

/// What `f` returns, and how many blocks this thread allocated meanwhile.
pub fn made<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = MADE.get();
    let value = f();
    (value, MADE.get() - before)
}
