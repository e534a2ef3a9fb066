//! Where the tensors lie: sizes, alignment, overlaps, and the end of the file.

use super::header::{Gguf, TensorInfo};
use super::limits::Room;
use super::meta::Meta;
use super::names::tensor;
use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};

const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u32 = 32;
const MAX_ALIGNMENT: u32 = 1 << 20;

/// The bytes of a tensor, for dims that make sense: rows of whole blocks, and counts that a 32-bit host can hold.
pub(super) fn tensor_bytes(dtype: DType, dims: &[u64]) -> Result<u64> {
    if dims.contains(&0) {
        bail!(GgufInvalid, "the dims {dims:?} hold no elements; each dim must be at least 1");
    }
    let cols = dims[0];
    let rows = dims[1..].iter().try_fold(1u64, |n, d| n.checked_mul(*d)).filter(|n| *n <= u32::MAX.into());
    let (Some(rows), true) = (rows, cols <= u32::MAX.into()) else {
        bail!(GgufInvalid, "the dims {dims:?} make more rows or columns than 2^32 - 1");
    };
    let (elems, bytes) = (dtype.block_elems() as u64, dtype.block_bytes() as u64);
    if !cols.is_multiple_of(elems) {
        bail!(GgufInvalid, "rows of {cols} values are not a multiple of {elems}, the block size of {dtype}");
    }
    match (cols / elems * bytes).checked_mul(rows) {
        Some(len) if len <= i64::MAX as u64 => Ok(len),
        _ => bail!(GgufInvalid, "the dims {dims:?} are too large to address"),
    }
}

/// Turns offsets from the start of the data into offsets from the start of the file, and checks them. `room.pos` is
/// the end of the header.
pub(super) fn place(version: u32, meta: Meta, mut tensors: Vec<TensorInfo>, room: &Room) -> Result<Gguf> {
    let alignment = alignment(&meta)?;
    let data_offset = room.pos.next_multiple_of(alignment);
    for t in &mut tensors {
        if !t.offset.is_multiple_of(alignment) {
            let detail = format!("offset {} is not a multiple of the alignment {alignment}", t.offset);
            return Err(Error::new(ErrorKind::GgufInvalid, detail).at(tensor(&t.name)));
        }
        // Below 2^63 each, so that every later sum of an offset and a length fits.
        let start = t.offset.checked_add(data_offset).filter(|n| *n <= i64::MAX as u64);
        let Some(start) = start else {
            let detail = format!("offset {} is too large to address", t.offset);
            return Err(Error::new(ErrorKind::GgufInvalid, detail).at(tensor(&t.name)));
        };
        t.offset = start;
    }
    check_names(&tensors)?;
    check_overlaps(&tensors, alignment)?;
    let gguf = Gguf { version, meta, tensors, alignment, data_offset };
    if let Some(len) = room.file_len {
        gguf.check_len(len)?;
    }
    Ok(gguf)
}

fn alignment(meta: &Meta) -> Result<u64> {
    let a = meta.opt_u32(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if !a.is_power_of_two() || a > MAX_ALIGNMENT {
        let detail = format!("must be a power of two up to {MAX_ALIGNMENT}, is {a}");
        return Err(Error::new(ErrorKind::GgufInvalid, detail).at(format!("key `{ALIGNMENT_KEY}`")));
    }
    Ok(a.into())
}

pub(super) fn check_names(tensors: &[TensorInfo]) -> Result<()> {
    let names = sorted(tensors, |t| t.name.as_str());
    match names.windows(2).find(|w| w[0].name == w[1].name) {
        Some(w) => Err(Error::new(ErrorKind::GgufInvalid, "two tensors have this name").at(tensor(&w[0].name))),
        None => Ok(()),
    }
}

fn check_overlaps(tensors: &[TensorInfo], alignment: u64) -> Result<()> {
    for w in sorted(tensors, |t| t.offset).windows(2) {
        let end = w[0].offset + w[0].len;
        if w[1].offset < end {
            let detail = format!("starts at byte {}, inside {}, which ends at {end}", w[1].offset, tensor(&w[0].name));
            return Err(Error::new(ErrorKind::GgufInvalid, detail).at(tensor(&w[1].name)));
        }
        // Writers leave no room, but some programs gave numbers of types to formats of their own, with other lengths.
        if w[1].offset - end >= alignment {
            let (dtype, len, space) = (w[0].dtype, w[0].len, w[1].offset - w[0].offset);
            let detail =
                format!("needs {len} bytes as {dtype}, but the next tensor starts after {space}; is the type right?");
            return Err(Error::new(ErrorKind::GgufInvalid, detail).at(tensor(&w[0].name)));
        }
    }
    Ok(())
}

fn sorted<'a, K: Ord>(tensors: &'a [TensorInfo], by: impl Fn(&'a TensorInfo) -> K) -> Vec<&'a TensorInfo> {
    let mut refs: Vec<_> = tensors.iter().collect();
    refs.sort_unstable_by_key(|t| by(t));
    refs
}

impl Gguf {
    /// The header of a file that need not exist: tensors (name, type, dims) one after another, from byte 0 on.
    pub fn of_parts(meta: Meta, parts: Vec<(String, DType, Vec<u64>)>) -> Result<Gguf> {
        let alignment = alignment(&meta)?;
        let mut tensors: Vec<TensorInfo> = Vec::with_capacity(parts.len());
        for (name, dtype, dims) in parts {
            let len = tensor_bytes(dtype, &dims).map_err(|e| e.at(tensor(&name)))?;
            let offset = tensors.last().map_or(0, |t| (t.offset + t.len).next_multiple_of(alignment));
            tensors.push(TensorInfo { name, dtype, dims, offset, len });
        }
        check_names(&tensors)?;
        Ok(Gguf { version: 3, meta, tensors, alignment, data_offset: 0 })
    }

    /// Refuses a file of `file_len` bytes that ends before its last tensor does.
    pub fn check_len(&self, file_len: u64) -> Result<()> {
        let Some(last) = self.tensors.iter().max_by_key(|t| t.offset + t.len) else { return Ok(()) };
        let end = last.offset + last.len;
        if end <= file_len {
            return Ok(());
        }
        let missing = end - file_len;
        let detail = format!(
            "ends at byte {end}, the file has {file_len}: {missing} bytes are missing; is the download complete?"
        );
        Err(Error::new(ErrorKind::GgufTruncated, detail).at(tensor(&last.name)))
    }
}
