//! Patches of an image: a row of numbers for each.

use super::Pixels;

/// How an image is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Pixels along a side of a patch.
    pub patch: usize,
    /// Patches along a side of the squares in which they come.
    pub merge: usize,
    /// Positions along a side of the grid that is stretched over the image.
    pub side: usize,
    /// Subtracted from red, green and blue, which are 0 to 1.
    pub mean: [f32; 3],
    /// What they are divided by then.
    pub std: [f32; 3],
}

/// The rows of all patches: pixels by channel, row and column; then the numbers of the four positions of the grid around the
/// patch, and their shares. Patches come square by square, row by row in a square. The sides of the image are whole squares.
pub fn patches(image: &Pixels<'_>, cut: &Cut) -> Vec<f32> {
    let Cut { patch, merge, side, .. } = *cut;
    let (across, down) = (image.width() / patch, image.height() / patch);
    let mut rows = Vec::with_capacity(across * down * (3 * patch * patch + 8));
    for tile in 0..across / merge * (down / merge) {
        for inside in 0..merge * merge {
            let row = tile / (across / merge) * merge + inside / merge;
            let column = tile % (across / merge) * merge + inside % merge;
            for c in 0..3 {
                for (y, x) in (0..patch).flat_map(|y| (0..patch).map(move |x| (y, x))) {
                    let value = image.rgb(column * patch + x, row * patch + y)[c];
                    rows.push((f32::from(value) / 255.0 - cut.mean[c]) / cut.std[c]);
                }
            }
            let (above, below, down_by) = between(row, down, side);
            let (left, right, along_by) = between(column, across, side);
            let corners = [above * side + left, above * side + right, below * side + left, below * side + right];
            rows.extend(corners.map(|at| at as f32));
            let (up, back) = (1.0 - down_by, 1.0 - along_by);
            rows.extend([up * back, up * along_by, down_by * back, down_by * along_by]);
        }
    }
    rows
}

/// The positions before and after patch `i` of `n`, and how far it is from the first to the second: the first and the last
/// patch lie on the first and the last position.
fn between(i: usize, n: usize, side: usize) -> (usize, usize, f32) {
    let at = if n > 1 { i as f64 * (side - 1) as f64 / (n - 1) as f64 } else { 0.0 };
    let before = (at as usize).min(side - 1);
    (before, (before + 1).min(side - 1), (at - before as f64) as f32)
}
