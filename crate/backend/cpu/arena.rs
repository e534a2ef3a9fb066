//! The memory of all weights, in a few large pieces. A token reads all of it in order, and with pages of 4 KB half of
//! that time is spent on page translation, so Linux is asked for huge pages.

use crate::error::{Error, ErrorKind, Result};

/// The alignment of the widest register. Everything starts at a multiple of it.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Line([u8; 64]);

pub(super) const LINE: usize = size_of::<Line>();

/// A `Vec` of wasm32 cannot be larger than 2 GiB, and an allocator finds room for smaller pieces more easily.
const PIECE: usize = (1 << 30) / LINE;

#[derive(Default)]
pub(super) struct Arena {
    pieces: Vec<Vec<Line>>,
}

/// The location of some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    piece: usize,
    line: usize,
    bytes: usize,
}

impl Arena {
    /// Zeroed room for each of these sizes in bytes, in this order.
    pub(super) fn new(sizes: impl Iterator<Item = usize>) -> Result<(Self, Vec<Place>)> {
        let (mut lens, mut places) = (Vec::new(), Vec::new());
        for bytes in sizes {
            let lines = bytes.div_ceil(LINE);
            match lens.last_mut() {
                Some(last) if *last + lines <= PIECE => *last += lines,
                _ => lens.push(lines),
            }
            places.push(Place { piece: lens.len() - 1, line: lens[lens.len() - 1] - lines, bytes });
        }
        let pieces = lens.into_iter().map(zeros).collect::<Result<_>>()?;
        Ok((Self { pieces }, places))
    }

    #[inline(always)]
    pub(super) fn get(&self, p: Place) -> &[u8] {
        &bytemuck::cast_slice(&self.pieces[p.piece][p.line..])[..p.bytes]
    }

    pub(super) fn get_mut(&mut self, p: Place) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.pieces[p.piece][p.line..])[..p.bytes]
    }

    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(|p| size_of_val(&**p)).sum()
    }
}

fn zeros(lines: usize) -> Result<Vec<Line>> {
    let mut piece = Vec::new();
    let too_much =
        |_| Error::new(ErrorKind::OutOfMemory, format!("cannot allocate {} bytes for weights", lines * LINE));
    piece.try_reserve_exact(lines).map_err(too_much)?;
    large_pages(piece.spare_capacity_mut());
    piece.resize(lines, bytemuck::Zeroable::zeroed());
    Ok(piece)
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
