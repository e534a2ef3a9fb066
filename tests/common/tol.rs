//! Named tolerances. A difference is judged against the largest value of its row, because that is what a sum of
//! terms of that size can lose; values near zero in a row of large ones carry no digits of their own. A row of few
//! values may be small as a whole because its terms cancelled, so the root mean square of all rows counts as well.

/// A row passes where `|got - want| <= abs + rel * size` for each of its values; its size is the larger of its largest
/// value and the root mean square of all rows.
#[derive(Clone, Copy, Debug)]
pub struct Tol {
    pub abs: f32,
    pub rel: f32,
}

/// The op moves or scales values: one rounding of f32.
pub const COPY: Tol = Tol { abs: 0.0, rel: 1.2e-7 };

/// One or two roundings of f32 per value, and a square root or a division.
pub const ELEMENT: Tol = Tol { abs: 1e-30, rel: 1e-6 };

/// `exp` and `tanh` in f32: a few units in the last place, and values below 1 lose some in `1 - small`.
pub const CURVE: Tol = Tol { abs: 1e-6, rel: 4e-6 };

/// An angle in f32 of up to some hundred radians has an absolute error of about 3e-5, and so has its sine.
pub const ANGLE: Tol = Tol { abs: 1e-6, rel: 6e-5 };

/// A dot product of n f32 terms, n up to some thousand, in another order than the reference. Outliers in the inputs
/// make single terms far larger than the sum.
pub const DOT: Tol = Tol { abs: 1e-6, rel: 2e-5 };

/// Scores (a dot product), `exp` of them, and a weighted mean.
pub const ATTENTION: Tol = Tol { abs: 1e-6, rel: 4e-5 };

/// Two dot products a token, and a state that passes the roundings of each token on to the next ones.
pub const RECURRENT: Tol = Tol { abs: 1e-6, rel: 4e-5 };

/// A whole layer with normalised logits: the roundings of all its ops, through two matrices each.
pub const LAYER: Tol = Tol { abs: 1e-6, rel: 5e-5 };

impl Tol {
    /// The same tolerance for a backend that is `slack` times coarser.
    pub fn times(self, slack: f32) -> Tol {
        Tol { abs: self.abs * slack, rel: self.rel * slack }
    }

    /// Compares rows of `cols` values.
    ///
    /// # Panics
    /// Names the worst value of the first bad row.
    pub fn check(self, what: &str, got: &[f32], want: &[f32], cols: usize) {
        assert_eq!(got.len(), want.len(), "{what}: number of values");
        let usual = (want.iter().map(|v| f64::from(v * v)).sum::<f64>() / want.len().max(1) as f64).sqrt() as f32;
        for (row, (got, want)) in got.chunks(cols).zip(want.chunks(cols)).enumerate() {
            assert!(want.iter().all(|v| v.is_finite()), "{what}: row {row} of the reference is not finite");
            let largest = want.iter().fold(usual, |m, v| m.max(v.abs()));
            let allowed = self.abs + self.rel * largest;
            let off = |i: &usize| {
                let d = (got[*i] - want[*i]).abs();
                if d.is_finite() { d } else { f32::INFINITY }
            };
            let worst = (0..got.len()).max_by(|a, b| off(a).total_cmp(&off(b))).expect("a row has columns");
            assert!(
                off(&worst) <= allowed,
                "{what}: row {row} column {worst} is {}, must be {} within {allowed:e} (its size is {largest})",
                got[worst],
                want[worst],
            );
        }
    }
}
