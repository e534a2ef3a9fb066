//! Images in prompts. The rows of an image are tokens of a sequence like others, with ids past the vocabulary that are made of
//! its digest: so prompts that start alike share their part of the cache, whatever they show. Who gives such ids to the engine
//! keeps the [`Image`] until they have run; sequences keep what they have run.

use std::rc::{Rc, Weak};

/// Ids of rows of images are not below this; no vocabulary comes near.
pub(super) const FIRST_ID: u32 = 1 << 31;

/// The rows of an image, and how they lie.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRows {
    /// No other image, or encoder, has it.
    pub digest: u128,
    /// Rows along the image; 0 where they follow each other like text, whatever they show.
    pub width: usize,
    /// Down the image, or all of them.
    pub height: usize,
    /// `[height * width, columns]`: what takes the place of an embedding, then what is added to the results of the language
    /// model's first layers.
    pub values: Vec<f32>,
}

impl ImageRows {
    /// How many rows an image of these sides has.
    pub(super) fn count(width: usize, height: usize) -> usize {
        width.max(1).saturating_mul(height)
    }
}

/// An image that an engine has rows for.
#[derive(Clone)]
pub struct Image(Rc<Known>);

struct Known {
    rows: ImageRows,
    ids: Vec<u32>,
}

impl Image {
    pub(super) fn new(rows: ImageRows) -> Self {
        let ids = ids(rows.digest, ImageRows::count(rows.width, rows.height));
        Self(Rc::new(Known { rows, ids }))
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// What stands for it in a prompt: an id for each row.
    pub fn tokens(&self) -> &[u32] {
        &self.0.ids
    }

    /// Its rows.
    pub fn rows(&self) -> &ImageRows {
        &self.0.rows
    }

    /// The rows from number `from` on, for so many tokens.
    pub(super) fn values(&self, from: usize, n: usize) -> &[f32] {
        let columns = self.0.rows.values.len() / self.0.ids.len();
        &self.0.rows.values[from * columns..(from + n) * columns]
    }

    /// How many positions it takes in the cache beyond its time.
    pub(super) fn behind(&self) -> usize {
        self.0.ids.len() - self.0.rows.width.max(self.0.rows.height)
    }
}

/// The images of an engine that somebody keeps.
#[derive(Default)]
pub(super) struct Images(Vec<Weak<Known>>);

impl Images {
    pub(super) fn known(&self) -> impl Iterator<Item = Image> {
        self.0.iter().filter_map(Weak::upgrade).map(Image)
    }

    /// The image whose rows some tokens begin with, the number of the first of those, and how many there are. Single ids may
    /// be those of other images too, so the longest run counts.
    pub(super) fn find(&self, tokens: &[u32]) -> Option<(Image, usize, usize)> {
        let runs = self.known().flat_map(|image| {
            let rows = (0..image.0.ids.len()).filter(|row| tokens.first() == Some(&image.0.ids[*row]));
            let runs = rows.map(|row| (row, image.0.ids[row..].iter().zip(tokens).take_while(|(a, b)| a == b).count()));
            runs.max_by_key(|(_, len)| *len).map(|(row, len)| (image.clone(), row, len))
        });
        runs.max_by_key(|(.., len)| *len)
    }

    /// Forgets those that nobody keeps.
    pub(super) fn add(&mut self, image: &Image) {
        self.0.retain(|known| known.strong_count() > 0);
        self.0.push(Rc::downgrade(&image.0));
    }
}

/// The id of each row of an image: all of them together tell it from others.
fn ids(digest: u128, rows: usize) -> Vec<u32> {
    // SplitMix64, whose outputs pass tests of randomness for any start: <https://doi.org/10.1145/2714064.2660195>.
    let mixed = |z: u64| {
        let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let start = mixed(digest as u64) ^ (digest >> 64) as u64;
    let id =
        |row: usize| FIRST_ID | mixed(start.wrapping_add((row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))) as u32;
    (0..rows).map(id).collect()
}

/// Tokens that run together: text, or rows of one image.
pub(super) struct Stretch {
    pub len: usize,
    pub image: Option<(Image, usize)>,
}

/// An image in a sequence, and the position of its first row.
pub(super) type Shown = (usize, Image);
