//! Parts of a matrix that threads write at the same time.

use std::marker::PhantomData;
use std::ops::Range;

/// A matrix [rows, cols] that several threads write.
pub(super) struct Base<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: only tiles use the pointer, and whoever makes those keeps them apart.
unsafe impl<T: Send> Sync for Base<'_, T> {}

impl<'a, T> Base<'a, T> {
    pub(super) fn new(y: &'a mut [T], cols: usize) -> Self {
        let rows = y.len() / cols;
        assert_eq!(rows * cols, y.len(), "whole rows");
        Self { start: y.as_mut_ptr(), rows, cols, borrowed: PhantomData }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// A part, which must have no value in common with any other that lives at the same time.
    pub(super) fn tile<'b>(&'b self, rows: Range<usize>, cols: Range<usize>, order: Option<&'b [u32]>) -> Tile<'b, T> {
        assert!(rows.end <= self.rows && cols.start <= cols.end && cols.end <= self.cols, "the tile is in the matrix");
        Tile { base: self, rows, cols, order }
    }
}

/// A part of a matrix that one thread writes.
pub(crate) struct Tile<'a, T = f32> {
    base: &'a Base<'a, T>,
    /// Of the matrix or, where there is one, of an order.
    pub(crate) rows: Range<usize>,
    pub(crate) cols: Range<usize>,
    /// That of [`Groups`].
    order: Option<&'a [u32]>,
}

impl<T> Tile<'_, T> {
    /// The matrix row of the tile's row `r`.
    #[inline(always)]
    pub(crate) fn at(&self, r: usize) -> usize {
        self.order.map_or(r, |order| order[r] as usize)
    }

    /// The tile's columns of its row `r`.
    pub(crate) fn row(&mut self, r: usize) -> &mut [T] {
        assert!(self.rows.contains(&r), "row {r} is not in {:?}", self.rows);
        let at = self.at(r);
        // SAFETY: the pool borrows the matrix mutably until all tiles are done, the range lies in it (an order has the
        // numbers of its rows, each once), and no other tile has this row with these columns. `&mut self` keeps a second
        // slice of this tile away.
        unsafe {
            std::slice::from_raw_parts_mut(self.base.start.add(at * self.base.cols + self.cols.start), self.cols.len())
        }
    }
}

/// The rows of a matrix by the group that each belongs to.
#[derive(Default)]
pub(crate) struct Groups {
    of: Vec<usize>,
    /// Each row once, those of the first group first.
    pub(super) order: Vec<u32>,
    /// The groups that have rows, and where those are in the order.
    pub(super) runs: Vec<(usize, Range<usize>)>,
    /// Where the next row of each group goes.
    next: Vec<usize>,
}

impl Groups {
    /// Sorts rows, of which `of` says the group of each, below `n`.
    pub(crate) fn sort(&mut self, n: usize, of: impl Iterator<Item = usize>) {
        let Self { of: groups, order, runs, next } = self;
        groups.clear();
        groups.extend(of);
        next.clear();
        next.resize(n, 0);
        groups.iter().for_each(|group| next[*group] += 1);
        runs.clear();
        runs.reserve(n.min(groups.len()));
        let mut total = 0;
        for (group, next) in next.iter_mut().enumerate() {
            let rows = total..total + *next;
            (total, *next) = (rows.end, rows.start);
            if !rows.is_empty() {
                runs.push((group, rows));
            }
        }
        order.clear();
        order.resize(total, 0);
        for (row, group) in (0..).zip(&*groups) {
            order[next[*group]] = row;
            next[*group] += 1;
        }
    }

    /// Groups that have rows.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn rows(&self) -> usize {
        self.order.len()
    }
}
