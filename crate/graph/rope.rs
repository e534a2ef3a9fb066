//! Rotary position embedding.

use super::ir::WeightId;

/// Which two numbers of a head one angle rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// (2i, 2i + 1).
    Adjacent,
    /// (i, i + n_rot / 2).
    Halves,
}

/// Which of a token's coordinates an angle is multiplied by: time (0), row (1) or column (2). Outside of images all three
/// are the position in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeAxes {
    /// The time.
    Time,
    /// Angle 3j + 1 the row and 3j + 2 the column, for so many j of each; the others the time (interleaved M-RoPE,
    /// <https://arxiv.org/abs/2511.21631>).
    Interleaved {
        /// Angles of the row.
        rows: usize,
        /// Angles of the column.
        columns: usize,
    },
    /// The first half of the angles the row, the second half the column, each with the speeds of a head half as long. Tokens
    /// come in squares of `square` by `square`, row by row in a square and square by square.
    Grid {
        /// Tokens along a side of a square.
        square: usize,
    },
}

/// Rotary position embedding, <https://arxiv.org/abs/2104.09864>: angle i at coordinate c is `c * scale * base^power(i)`,
/// divided by `freqs[i]` where that weight is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Columns of a head.
    pub d_head: usize,
    /// How many numbers at the start of a head are rotated.
    pub n_rot: usize,
    /// Which numbers one angle rotates.
    pub pairs: RopePairs,
    /// The coordinate of each angle.
    pub axes: RopeAxes,
    /// Angles fall from 1 to about `1 / base` per position.
    pub base: f32,
    /// Factor on the coordinate (linear scaling by s is 1 / s).
    pub scale: f32,
    /// One divisor per angle, `n_rot / 2` of them.
    pub freqs: Option<WeightId>,
}

impl Rope {
    /// The power of the base for angle i: `-2i / n_rot`, or that of its half.
    pub fn power(&self, i: usize) -> f64 {
        match self.axes {
            RopeAxes::Grid { .. } => -4.0 * (i % (self.n_rot / 4)) as f64 / self.n_rot as f64,
            _ => -2.0 * i as f64 / self.n_rot as f64,
        }
    }

    /// The coordinate of angle i.
    pub fn axis(&self, i: usize) -> usize {
        match self.axes {
            RopeAxes::Interleaved { rows, .. } if i % 3 == 1 && i < 3 * rows => 1,
            RopeAxes::Interleaved { columns, .. } if i % 3 == 2 && i < 3 * columns => 2,
            RopeAxes::Grid { .. } => 1 + i / (self.n_rot / 4),
            _ => 0,
        }
    }

    /// Tokens along a side of the squares in which they come: 1 where they come row by row.
    pub fn square(&self) -> usize {
        if let RopeAxes::Grid { square } = self.axes { square } else { 1 }
    }
}
