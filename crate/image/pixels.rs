//! Decoded images.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::bail;
use crate::error::Result;

/// The most pixels of an image: what cameras make, and 256 MiB of them.
pub const MAX_PIXELS: usize = 64 << 20;

/// Red, green, blue and alpha of each pixel, a byte each, row by row. Alpha does not count, as where models are trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels<'a> {
    width: usize,
    height: usize,
    rgba: Cow<'a, [u8]>,
}

impl<'a> Pixels<'a> {
    /// Refuses sizes that do not fit the bytes, and images of more than [`MAX_PIXELS`].
    pub fn new(width: usize, height: usize, rgba: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        let rgba = rgba.into();
        let pixels = width.checked_mul(height).filter(|n| (1..=MAX_PIXELS).contains(n));
        let Some(pixels) = pixels else {
            bail!(
                BadImage,
                "an image of {width} x {height} pixels is empty, or has more than {MAX_PIXELS}; make it smaller"
            );
        };
        if rgba.len() != 4 * pixels {
            bail!(BadImage, "an image of {width} x {height} pixels has {} bytes, not 4 for each", rgba.len());
        }
        Ok(Self { width, height, rgba })
    }

    /// Of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Of a column.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Red, green and blue of a pixel.
    pub(super) fn rgb(&self, x: usize, y: usize) -> [u8; 3] {
        let at = 4 * (y * self.width + x);
        [self.rgba[at], self.rgba[at + 1], self.rgba[at + 2]]
    }

    /// A number that no two images share, but by intent and with more work than anybody has.
    pub fn digest(&self) -> u128 {
        let half = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (salt, self.width, self.height, &*self.rgba).hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(0x9e37_79b9_7f4a_7c15) << 64 | half(0xd1b5_4a32_d192_ed03)
    }
}
