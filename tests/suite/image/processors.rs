//! Images of odd sizes against what the processors of `transformers` make of them.

use pagelm::image::{Cut, Filter, PixelRange, Pixels, fitted, patches, resize};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::picture;
use crate::common::fixtures;

#[derive(Deserialize)]
struct Fixture {
    qwen: Qwen,
    gemma: Gemma,
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Qwen {
    patch: usize,
    merge: usize,
    min_pixels: usize,
    max_pixels: usize,
}

#[derive(Deserialize)]
struct Gemma {
    size: usize,
}

#[derive(Deserialize)]
struct Image {
    width: usize,
    height: usize,
    seed: u32,
    qwen: Values,
    gemma: Values,
}

#[derive(Deserialize)]
struct Values {
    /// Down and along the image.
    patches: [usize; 2],
    /// Of the values as bytes, which they were before they were normed.
    sha256: String,
    sum: f64,
    samples: Vec<(usize, f32)>,
}

fn compare(what: &str, got: &[f32], want: &Values) {
    for (at, value) in &want.samples {
        assert!((got[*at] - value).abs() <= 1e-6, "{what}: value {at} is {}, not {value}", got[*at]);
    }
    let bytes: Vec<u8> = got.iter().map(|v| ((f64::from(*v) * 0.5 + 0.5) * 255.0).round() as u8).collect();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, want.sha256, "{what}: some pixel is another");
    let sum: f64 = got.iter().map(|v| f64::from(*v)).sum();
    let off = (sum - want.sum).abs();
    assert!(
        off <= 1e-6 * (got.len() as f64).sqrt() + 1e-6 * want.sum.abs(),
        "{what}: the sum is {sum}, not {}",
        want.sum
    );
}

fn load() -> Fixture {
    let fixture: Fixture = serde_json::from_slice(&fixtures::bytes("reference/pixels.json")).unwrap();
    assert_eq!(fixture.images.len(), 20);
    fixture
}

const NORM: Cut = Cut { patch: 1, merge: 1, side: 1, mean: [0.5; 3], std: [0.5; 3] };

#[test]
fn images_of_odd_sizes_become_what_the_processor_of_qwen_makes_of_them() {
    let Fixture { qwen: Qwen { patch, merge, min_pixels, max_pixels }, images, .. } = load();
    for Image { width, height, seed, qwen: want, .. } in images {
        let what = format!("{width} x {height}");
        let range = PixelRange { least: min_pixels, most: max_pixels };
        let size = fitted(height, width, patch * merge, range).unwrap();
        assert_eq!(size.map(|side| side / patch), want.patches, "{what}");
        let image = resize(&picture(width, height, seed), size, Filter::Bicubic).unwrap();
        let rows = patches(&image, &Cut { patch, merge, side: 8, ..NORM });
        let pixels = 3 * patch * patch;
        let values: Vec<f32> = rows.chunks_exact(pixels + 8).flat_map(|row| row[..pixels].to_vec()).collect();
        compare(&what, &values, &want);
    }
}

#[test]
fn images_of_odd_sizes_become_what_the_processor_of_gemma_makes_of_them() {
    let Fixture { gemma: Gemma { size }, images, .. } = load();
    for Image { width, height, seed, gemma: want, .. } in images {
        let image: Pixels<'_> = resize(&picture(width, height, seed), [size; 2], Filter::Bilinear).unwrap();
        // All of it as one patch: channel by channel, row by row.
        let values = patches(&image, &Cut { patch: size, ..NORM });
        compare(&format!("{width} x {height}"), &values[..3 * size * size], &want);
    }
}
