//! From pixels to what a model reads.

mod processors;

use pagelm::image::{Cut, Filter, MAX_PIXELS, PixelRange, Pixels, fitted, patches, resize};
use serde::Deserialize;

use crate::common::fixtures;

#[derive(Deserialize)]
struct Size {
    height: usize,
    width: usize,
    factor: usize,
    min_pixels: usize,
    max_pixels: usize,
    resized: [usize; 2],
}

#[test]
fn sizes_are_those_of_the_reference() {
    let sizes: Vec<Size> = serde_json::from_slice(&fixtures::bytes("golden/smart_resize.json")).unwrap();
    assert!(sizes.len() > 10);
    for s in sizes {
        let range = PixelRange { least: s.min_pixels, most: s.max_pixels };
        let got = fitted(s.height, s.width, s.factor, range).unwrap();
        assert_eq!(got, s.resized, "{} x {} by {}", s.height, s.width, s.factor);
    }
}

#[test]
fn sizes_of_any_image_are_whole_and_not_empty_or_refused() {
    let range = PixelRange { least: 8192, most: 1 << 20 };
    for (height, width) in [(1, 1), (1, 200), (3, 500), (8000, 8000), (64, 12_000), (31, 33), (1 << 20, 1 << 14)] {
        let [h, w] = fitted(height, width, 32, range).unwrap();
        assert!(h >= 32 && w >= 32 && h % 32 == 0 && w % 32 == 0, "{height} x {width} gives {h} x {w}");
    }
    for (height, width) in [(1, 201), (0, 5), (5, 0), (usize::MAX, 1)] {
        assert_eq!(fitted(height, width, 32, range).unwrap_err().code(), "bad-image", "{height} x {width}");
    }
}

#[test]
fn pixels_must_fit_their_size_and_their_number_is_limited() {
    assert!(Pixels::new(2, 3, vec![0; 24]).is_ok());
    for (width, height, bytes) in [(2, 3, 23), (2, 3, 18), (0, 3, 0), (usize::MAX, 2, 8), (MAX_PIXELS, 2, 8)] {
        let e = Pixels::new(width, height, vec![0; bytes]).unwrap_err();
        assert_eq!(e.code(), "bad-image", "{width} x {height}");
    }
}

#[test]
fn an_image_is_told_from_others_by_its_digest() {
    let bytes: Vec<u8> = (0..96).collect();
    let digest = |w, h, b: &[u8]| Pixels::new(w, h, b.to_vec()).unwrap().digest();
    let all = digest(4, 6, &bytes);
    assert_eq!(all, digest(4, 6, &bytes));
    assert_ne!(all, digest(6, 4, &bytes), "another shape");
    let mut other = bytes.clone();
    other[50] ^= 1;
    assert_ne!(all, digest(4, 6, &other));
}

/// A picture with fine and coarse parts.
fn picture(width: usize, height: usize, seed: u32) -> Pixels<'static> {
    let mut state = seed;
    let mut rgba = Vec::new();
    for i in 0..width * height * 3 {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12345) & 0x7fff_ffff;
        rgba.push(if (i / 12) % 2 == 1 { (state >> 16) as u8 } else { (i * 7) as u8 });
        if i % 3 == 2 {
            rgba.push(i as u8); // alpha does not count
        }
    }
    Pixels::new(width, height, rgba).unwrap()
}

/// Red, green and blue of all pixels.
fn rgb(image: &Pixels<'_>) -> Vec<u8> {
    let cut = Cut { patch: 1, merge: 1, side: 1, mean: [0.0; 3], std: [1.0 / 255.0; 3] };
    patches(image, &cut).chunks_exact(11).flat_map(|p| [p[0], p[1], p[2]]).map(|v| v.round() as u8).collect()
}

/// What Pillow 12 (`Image.resize` with `BICUBIC`) makes of the pictures: width and height before and after, and the bytes.
#[rustfmt::skip]
const RESIZED: [([usize; 2], [usize; 2], &str); 4] = [
    ([7, 5], [12, 9], concat!(
        "00000601000c080f16131b2221282f31344229412f0d50022a6d216c796cd435dbff09ff00322215373341434e50515c5961",
        "67686c78677b70588a576b8661956d82d327b9ef00d1049f543e9f769fa2adb4b0beb9c1c7c6cdd4d1dde1dbeceaddb1d1d9",
        "5aa7ca177abf006168e14a68d8656ec79284af9d999fa5a0a6b8b0b8cbc9d0dcd2abd1c879ae977660787835e0f13890e73d",
        "13ce4727885455536160626d6b7279777e858a86998d999b58da5736ff2dff896caba8480dd1192682576d5082adb04299ab",
        "27373f362e3249425354327e3e279630f442a9b478673bc40c4d75709049b3f0d438cacc03272d1d0c142c2a31383b3c4945",
        "43548c8dda9e9797b29b389f4b949a16d6d65768cb7b467d7a7a74848e8a91989a9da9a4a4b252bbf291abb0f38553cb34a6",
        "9e00e6c30d84c94b6eafa7b1b2c5c8c2c9d0d0d7ded8dfe6",
    )),
    ([40, 30], [8, 6], concat!(
        "6f82857d91928b7e87858c816c9d91777c7488847c807d8f867e7f7b767b807f8d787f7f929d8d7b7d887b7f8794797c8783",
        "878e8386737d81778182818e827e7d7e74867e81a1787c7b7a7e807777777d7f797c807e798b7b818485827c769a84758177",
        "6f817e77917b7a787f8d6f748b7079827397819382857f8f95858b8f83807c827a87897d768b81748c96867e",
    )),
    ([13, 50], [13, 8], concat!(
        "554251866b6359947e8f62647a6592a89991b1aeb48ada84a97daf72b48669516681917d6851599396b99895a385aca5af87",
        "af7e8f85659974727d3f5c867846786268746b6868936d97a06aacae9c6a7666b7826261617d6d62697376666182a7778480",
        "aa968b86bca492a89c999a909e9a7f8d8c84706c7b8557b08c88acc4a09991ae9f89b598717c9893666476764d636c4e6760",
        "746585897158828c8d618ca492695a817a9372657c5e67795e616192878495888d8b8f9e8a9ba3727facba7ba25b63465663",
        "7d986c8c75988d878590ac9ea08db29aa4ad7b97a09584666295a26e4059697d5761869388897aaa83989ba8af8b7a8d7768",
        "8d83695e697d8e50475177629b709c85938cab86819b9d70575874996c56567b696695687e6859977a9a7878988a90869aaa",
        "bda2aaaaa6a18e9d6a5a9c7a",
    )),
    ([9, 3], [4, 7], concat!(
        "00020c1a4226824d888296aa2328323d4b3f845d7c78919e80889195618087825c5f8784cedce0df79b38aa441477763b5cf",
        "c5c58d948ca444415f4082a78f939b638e9a50414924709a7c81a2518e9754403f17",
    )),
];

#[test]
fn resizing_gives_the_bytes_of_the_reference() {
    for ([w, h], [width, height], want) in RESIZED {
        let got = resize(&picture(w, h, 12345), [height, width], Filter::Bicubic).unwrap();
        assert_eq!((got.width(), got.height()), (width, height));
        let got = rgb(&got);
        let want: Vec<u8> = (0..want.len() / 2).map(|i| u8::from_str_radix(&want[2 * i..][..2], 16).unwrap()).collect();
        assert_eq!(got, want, "{w} x {h} to {width} x {height}");
    }
}

#[test]
fn an_image_of_the_right_size_is_not_changed() {
    let image = picture(16, 24, 12345);
    assert_eq!(rgb(&resize(&image, [24, 16], Filter::Bicubic).unwrap()), rgb(&image));
}

#[test]
fn patches_come_square_by_square_with_their_place_in_the_grid() {
    // Each pixel says where it is: red the column, green the row.
    let (width, height, patch) = (8, 12, 2);
    let rgba = (0..width * height).flat_map(|i| [(i % width) as u8, (i / width) as u8, 7, 255]).collect::<Vec<u8>>();
    let image = Pixels::new(width, height, rgba).unwrap();
    let cut = Cut { patch, merge: 2, side: 3, mean: [0.0; 3], std: [1.0 / 255.0; 3] };
    let rows = patches(&image, &cut);
    let len = 3 * patch * patch + 8;
    assert_eq!(rows.len(), 4 * 6 * len);
    let first = |i: usize| (rows[i * len].round() as usize / patch, rows[i * len + 4].round() as usize / patch);
    let order: Vec<_> = (0..8).map(first).collect();
    assert_eq!(order, [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 0), (2, 1), (3, 1)], "column and row of each patch");
    // The grid of 3 x 3 is stretched over 6 rows and 4 columns of patches.
    let corners = |i: usize| &rows[i * len + 12..(i + 1) * len];
    assert_eq!(corners(0), [0.0, 1.0, 3.0, 4.0, 1.0, 0.0, 0.0, 0.0], "on the first position");
    assert_eq!(corners(23)[0], 8.0, "on the last");
    assert_eq!(corners(23)[4], 1.0);
    let [a, b, c, d] = [0.6 * (1.0 / 3.0), 0.6 * (2.0 / 3.0), 0.4 * (1.0 / 3.0), 0.4 * (2.0 / 3.0)];
    // Row 1 of 6 is at 0.4, column 1 of 4 at 2/3.
    let got = corners(3);
    assert_eq!(got[..4], [0.0, 1.0, 3.0, 4.0]);
    assert!(got[4..].iter().zip([a, b, c, d]).all(|(x, y)| (x - y).abs() < 1e-6), "{got:?}");
}
