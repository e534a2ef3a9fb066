//! From the pixels of an image to the rows that a model reads: its new size, resampling, patches. Knows no file format, and
//! no model but by numbers.

mod patches;
mod pixels;
mod resize;
mod size;

pub use patches::{Cut, patches};
pub use pixels::{MAX_PIXELS, Pixels};
pub use resize::{Filter, resize};
pub use size::{MAX_RATIO, PixelRange, fitted};
