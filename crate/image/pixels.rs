//! Decoded images.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

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

    /// A number that no two images share: the start of a SHA-256. Snapshots and the ids of rows are made of it, so it is the
    /// same wherever it is made.
    pub fn digest(&self) -> u128 {
        let sides = [self.width as u64, self.height as u64].map(u64::to_le_bytes);
        let hash = Sha256::new().chain_update(sides.as_flattened()).chain_update(&self.rgba).finalize();
        hash[..16].iter().fold(0, |digest, byte| digest << 8 | u128::from(*byte))
    }
}
