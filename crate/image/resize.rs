//! Resampling with antialiasing: the numbers of Pillow, by which models were trained, to the last bit.

use super::Pixels;
use crate::error::Result;

/// Weights are fixed-point numbers: this, and a byte, and the sign fit into 32 bits.
const BITS: u32 = 22;

/// The weights of the pixels that make one pixel of a new side.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// How much the pixels around a point count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// In a straight line, to nothing at the next pixel.
    Bilinear,
    /// By the cubic convolution of <https://doi.org/10.1109/TASSP.1981.1163711> with a slope of -1/2.
    Bicubic,
}

/// An image of another height and width; of the same size it is a copy.
pub fn resize(from: &Pixels<'_>, [height, width]: [usize; 2], filter: Filter) -> Result<Pixels<'static>> {
    // Rows first, and rounded to bytes before columns.
    let wide = resample(from, width, from.height(), &taps(from.width(), width, filter), |x, y| (x, y))?;
    resample(&wide, width, height, &taps(from.height(), height, filter), |x, y| (y, x))
}

/// Each pixel from those along one axis. `turn` swaps coordinates if that is the column.
fn resample(
    from: &Pixels<'_>,
    width: usize,
    height: usize,
    taps: &[Taps],
    turn: fn(usize, usize) -> (usize, usize),
) -> Result<Pixels<'static>> {
    let mut rgba = Vec::with_capacity(4 * width * height);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let (along, across) = turn(x, y);
        let Taps { first, weights } = &taps[along];
        let mut sums = [1i32 << (BITS - 1); 3];
        for (at, weight) in (*first..).zip(weights) {
            let (x, y) = turn(at, across);
            sums.iter_mut().zip(from.rgb(x, y)).for_each(|(sum, c)| *sum = sum.wrapping_add(weight * i32::from(c)));
        }
        rgba.extend(sums.map(|sum| (sum >> BITS).clamp(0, 255) as u8));
        rgba.push(255);
    }
    Pixels::new(width, height, rgba)
}

/// The taps of each pixel of a side of `to` pixels over one of `from`.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    // Where a side becomes shorter the curve is stretched over the pixels that fall into one.
    let stretch = scale.max(1.0);
    let (reach, curve): (f64, fn(f64) -> f64) = match filter {
        Filter::Bilinear => (1.0, |x| (1.0 - x.abs()).max(0.0)),
        Filter::Bicubic => (2.0, cubic),
    };
    let reach = reach * stretch;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(from);
            let weight = |at: usize| curve((at as f64 - center + 0.5) / stretch);
            let sum: f64 = (first..end).map(weight).sum();
            let fixed = |at| (weight(at) / sum * f64::from(1 << BITS)).round() as i32;
            Taps { first, weights: (first..end).map(fixed).collect() }
        })
        .collect()
}

fn cubic(x: f64) -> f64 {
    let (a, x) = (-0.5, x.abs());
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}
