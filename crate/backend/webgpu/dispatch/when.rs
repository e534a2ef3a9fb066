//! When a dispatch runs.

use crate::backend::Step;

/// When a dispatch runs: the ranges of the step's rows, and of the most keys that one of them sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct When {
    rows: [usize; 2],
    keys: [usize; 2],
    /// Whether most tokens are to be among so many first positions, or are not.
    fine: Option<(usize, bool)>,
}

impl When {
    pub(crate) const ALWAYS: Self = Self { rows: [1, usize::MAX], keys: [0, usize::MAX], fine: None };

    /// For `least` to `most` rows.
    pub(crate) fn rows(least: usize, most: usize) -> Self {
        Self { rows: [least, most], ..Self::ALWAYS }
    }

    /// And for `least` to `most` keys.
    #[must_use]
    pub(crate) fn and_keys(self, least: usize, most: usize) -> Self {
        Self { keys: [least, most], ..self }
    }

    /// And for steps most of whose tokens are among so many first positions, or for others.
    #[must_use]
    pub(crate) fn and_fine(self, positions: usize, is_fine: bool) -> Self {
        Self { fine: Some((positions, is_fine)), ..self }
    }

    pub(crate) fn fine(&self) -> Option<(usize, bool)> {
        self.fine
    }

    /// Whether it holds in a step whose result has so many rows.
    pub(super) fn holds(&self, step: &Step<'_>, rows: usize) -> bool {
        let fine = |(positions, is_fine)| is_fine == (2 * step.within(positions) > step.len());
        self.has_rows(rows) && (self.keys[0]..=self.keys[1]).contains(&step.keys()) && self.fine.is_none_or(fine)
    }

    pub(crate) fn is_never(&self) -> bool {
        self.rows[0] > self.rows[1] || self.fine == Some((0, true))
    }

    /// Whether it can hold for so many rows.
    pub(crate) fn has_rows(&self, rows: usize) -> bool {
        (self.rows[0]..=self.rows[1]).contains(&rows)
    }

    /// For fewer rows than this.
    #[must_use]
    pub(crate) fn before(&self) -> Self {
        Self::rows(1, self.rows[0] - 1)
    }

    /// For this many rows or more.
    #[must_use]
    pub(crate) fn and_more(&self) -> Self {
        Self { rows: [self.rows[0], usize::MAX], ..*self }
    }

    /// Whether it never holds in steps of at most `rows` rows.
    pub(crate) fn is_beyond(&self, rows: usize) -> bool {
        self.rows[0] > rows
    }
}
