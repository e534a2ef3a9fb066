//! What the fuzz targets and the suite's mutation tests run: any bytes must give an error or a sound result.

use pagelm::gguf::{Gguf, Progress, Reader};
use pagelm::quant::FORMATS;
use pagelm::{Error, ErrorKind};

/// Reads `data` as a GGUF file, whole and in pieces: both must say the same, and a header that is accepted must be sound.
pub fn gguf(data: &[u8]) -> Result<Gguf, Error> {
    let whole = Gguf::parse(data);
    // The last byte chooses the size of the pieces: 1 to 7 bytes, or a larger one.
    let size = match data.last().copied().unwrap_or(0) {
        b @ 0..128 => usize::from(b % 7) + 1,
        b => usize::from(b),
    };
    match (&whole, in_pieces(data, size)) {
        (Ok(a), Ok(b)) => {
            // Equal as text where it holds a NaN, which is not equal to itself.
            assert!(*a == b || format!("{a:?}") == format!("{b:?}"), "the header depends on the pieces");
            assert_sound(a, data.len() as u64);
        }
        (Err(a), Err(b)) => assert_eq!(*a, b, "the error depends on the pieces"),
        (a, b) => panic!("whole: {:?}, in pieces: {:?}", a.as_ref().err(), b.err()),
    }
    whole
}

/// Pushes `data` in pieces of `size` bytes.
pub fn in_pieces(data: &[u8], size: usize) -> Result<Gguf, Error> {
    let mut reader = Reader::new(Some(data.len() as u64));
    // An empty file has no pieces: it is the first, empty push that finds out.
    for piece in std::iter::once(&[][..]).chain(data.chunks(size)) {
        if let Progress::Done(gguf) = reader.push(piece)? {
            assert_eq!(reader.buffered(), 0);
            assert!(reader.consumed() <= gguf.data_offset);
            let after = reader.push(&[]).expect_err("a reader that is done takes no more");
            assert_eq!(after.kind(), ErrorKind::InvalidState);
            return Ok(*gguf);
        }
    }
    Err(reader.truncated())
}

fn assert_sound(gguf: &Gguf, file_len: u64) {
    assert!(gguf.alignment.is_power_of_two() && gguf.data_offset.is_multiple_of(gguf.alignment));
    for t in &gguf.tensors {
        assert!(t.offset >= gguf.data_offset && t.offset.is_multiple_of(gguf.alignment));
        assert!(t.offset + t.len <= file_len);
        assert_eq!(t.dtype.row_bytes(t.cols()).map(|row| (row * t.rows()) as u64), Some(t.len));
    }
}

/// Decodes `data` in the format that its first byte chooses.
pub fn quant(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let format = &FORMATS[usize::from(*first) % FORMATS.len()];
    let blocks = rest.len() / format.dtype.block_bytes();
    let mut out = vec![0.0; blocks * format.dtype.block_elems()];
    format.decode(&rest[..blocks * format.dtype.block_bytes()], &mut out);
}
