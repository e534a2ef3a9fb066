//! The size that an image is brought to: sides that are whole squares of patches, about its shape, and pixels in a range. The
//! rule of the processor of Qwen2-VL in `transformers`, with its rounding.

use crate::bail;
use crate::error::Result;

/// The longest side divided by the shortest.
pub const MAX_RATIO: usize = 200;

/// How many pixels an image may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelRange {
    /// Smaller images are made larger.
    pub least: usize,
    /// Larger ones smaller.
    pub most: usize,
}

/// The new height and width: multiples of `factor`.
pub fn fitted(height: usize, width: usize, factor: usize, range: PixelRange) -> Result<[usize; 2]> {
    let (long, short) = (height.max(width), height.min(width));
    if short == 0 || long > short.saturating_mul(MAX_RATIO) {
        bail!(
            BadImage,
            "an image of {width} x {height} pixels is too long; one side may be {MAX_RATIO} times the other"
        );
    }
    let (h, w, f) = (height as f64, width as f64, factor as f64);
    let [rows, columns] = [h, w].map(|side| (side / f).round_ties_even() * f);
    let scaled = |scale: f64, to_whole: fn(f64) -> f64| [h, w].map(|side| (to_whole(side * scale / f) * f).max(f));
    let fitted = if rows * columns > range.most as f64 {
        let shrink = (h * w / range.most as f64).sqrt();
        [h, w].map(|side| ((side / shrink / f).floor() * f).max(f))
    } else if rows * columns < range.least as f64 {
        scaled((range.least as f64 / (h * w)).sqrt(), f64::ceil)
    } else {
        [rows.max(f), columns.max(f)]
    };
    Ok(fitted.map(|side| side as usize))
}
