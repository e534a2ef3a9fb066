//! The memory of all weights, in a few large pieces. A token reads all of it in order, and with pages of 4 KB half of
//! that time is spent on page translation, so Linux is asked for huge pages.
//!
//! It is zeroed memory that the system made and nobody touched. To fill it with zeros once more would take as long as to read
//! the weights; as it is, a page is first touched where weights are packed into it, which several threads do.

use memory::Memory;

use crate::error::{Error, ErrorKind, Result};

/// The alignment of the widest register, in bytes. Everything starts at a multiple of it.
pub(super) const LINE: usize = memory::LINE;

/// A `Vec` of wasm32 cannot be larger than 2 GiB, and an allocator finds room for smaller pieces more easily.
const PIECE: usize = 1 << 30;

#[derive(Default)]
pub(super) struct Arena {
    pieces: Vec<Memory>,
}

/// The location of some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    piece: usize,
    start: usize,
    bytes: usize,
}

impl Arena {
    /// Zeroed room for each of these sizes in bytes, in this order.
    pub(super) fn new(sizes: impl Iterator<Item = usize>) -> Result<(Self, Vec<Place>)> {
        let (mut lens, mut places) = (Vec::new(), Vec::new());
        for bytes in sizes {
            let len = bytes.next_multiple_of(LINE);
            match lens.last_mut() {
                Some(last) if *last + len <= PIECE => *last += len,
                _ => lens.push(len),
            }
            places.push(Place { piece: lens.len() - 1, start: lens[lens.len() - 1] - len, bytes });
        }
        let all: usize = lens.iter().sum();
        let piece = |len| {
            Memory::new(len).ok_or_else(|| {
                let what =
                    format!("there is no room for {} MiB of weights; use a smaller model", all.div_ceil(1 << 20));
                Error::new(ErrorKind::OutOfMemory, what)
            })
        };
        Ok((Self { pieces: lens.into_iter().map(piece).collect::<Result<_>>()? }, places))
    }

    #[inline(always)]
    pub(super) fn get(&self, p: Place) -> &[u8] {
        &self.pieces[p.piece].bytes()[p.start..][..p.bytes]
    }

    pub(super) fn get_mut(&mut self, p: Place) -> &mut [u8] {
        &mut self.pieces[p.piece].bytes_mut()[p.start..][..p.bytes]
    }

    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(|p| p.bytes().len()).sum()
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod memory {
    use std::alloc::{Layout, alloc_zeroed};

    pub(super) const LINE: usize = 64;

    /// What an allocator aligns by itself: where it must do more, it fills memory with zeros that has them already.
    type Word = u128;
    const WORDS: usize = LINE / size_of::<Word>();

    pub(super) struct Memory {
        words: Vec<Word>,
        /// The first word that is aligned, and how many there are from it on.
        start: usize,
        len: usize,
    }

    impl Memory {
        /// So many zeros; a whole number of lines. `None` if there is not enough memory.
        pub(super) fn new(bytes: usize) -> Option<Self> {
            let len = bytes / size_of::<Word>();
            let mut words = zeros(len + WORDS - 1)?;
            let start = words.as_ptr().align_offset(LINE);
            large_pages(&mut words);
            Some(Self { words, start, len })
        }

        #[inline(always)]
        pub(super) fn bytes(&self) -> &[u8] {
            bytemuck::cast_slice(&self.words[self.start..][..self.len])
        }

        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            bytemuck::cast_slice_mut(&mut self.words[self.start..][..self.len])
        }
    }

    /// At least one zero.
    fn zeros(len: usize) -> Option<Vec<Word>> {
        let layout = Layout::array::<Word>(len).ok()?;
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) }.cast::<Word>();
        // SAFETY: the memory is what a `Vec` of so many words has, and they are all zero.
        (!start.is_null()).then(|| unsafe { Vec::from_raw_parts(start, len, len) })
    }

    /// Asks for huge pages before the memory is touched. Only a hint: without them everything works, but slower.
    #[cfg(target_os = "linux")]
    fn large_pages<T>(memory: &mut [T]) {
        unsafe extern "C" {
            fn madvise(start: *mut std::ffi::c_void, len: usize, advice: i32) -> i32;
        }
        const MADV_HUGEPAGE: i32 = 14;
        const LARGE: usize = 2 << 20;
        let start = memory.as_mut_ptr().cast::<u8>();
        let skip = start.align_offset(LARGE);
        let len = size_of_val(memory).saturating_sub(skip) / LARGE * LARGE;
        if len > 0 {
            // SAFETY: the range lies in `memory`, which is borrowed, and this advice changes no byte of it.
            unsafe { madvise(start.add(skip).cast(), len, MADV_HUGEPAGE) };
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn large_pages<T>(_: &mut [T]) {}
}

#[cfg(target_arch = "wasm32")]
mod memory {
    use std::arch::wasm32::memory_grow;
    use std::sync::{Mutex, PoisonError};

    pub(super) const LINE: usize = 64;

    const PAGE: usize = 1 << 16;

    /// What earlier arenas had: the memory of a module never shrinks.
    static SPARE: Mutex<Vec<&'static mut [u8]>> = Mutex::new(Vec::new());

    /// Pages by which the module's memory grew: those are zeros, which the allocator would not believe.
    pub(super) struct Memory {
        pages: &'static mut [u8],
        len: usize,
    }

    impl Memory {
        /// So many zeros. `None` if there is not enough memory.
        pub(super) fn new(len: usize) -> Option<Self> {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(i) = spare.iter().position(|pages| pages.len() >= len) {
                let pages = spare.swap_remove(i);
                pages[..len].fill(0);
                return Some(Self { pages, len });
            }
            let count = len.div_ceil(PAGE);
            let first = memory_grow::<0>(count);
            if first == usize::MAX {
                return None;
            }
            // SAFETY: the memory grew by these pages for this call alone, and they stay as long as the module.
            let pages = unsafe { std::slice::from_raw_parts_mut((first * PAGE) as *mut u8, count * PAGE) };
            Some(Self { pages, len })
        }

        #[inline(always)]
        pub(super) fn bytes(&self) -> &[u8] {
            &self.pages[..self.len]
        }

        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.pages[..self.len]
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(&mut self.pages));
        }
    }
}
