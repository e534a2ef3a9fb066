//! Matrices of experts: one tensor each in a checkpoint, one for all of them in GGUF.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a shard.
#[derive(Clone)]
pub(super) struct Piece {
    pub shard: usize,
    pub bytes: Range<usize>,
}

/// The experts of one layer that were found so far.
pub(super) struct Experts {
    dtype: DType,
    dims: Vec<u64>,
    pieces: BTreeMap<usize, Piece>,
}

/// By GGUF name.
#[derive(Default)]
pub(super) struct All(BTreeMap<String, Experts>);

impl All {
    /// Takes one expert's matrix, with its dims in GGUF's order.
    pub(super) fn add(&mut self, (own, i): (String, usize), dtype: DType, dims: Vec<u64>, piece: Piece) -> Result<()> {
        let e = self.0.entry(own).or_insert_with(|| Experts { dtype, dims: dims.clone(), pieces: BTreeMap::new() });
        if (e.dtype, &e.dims) != (dtype, &dims) || dims.len() != 2 {
            bail!(BadTensor, "is {dtype} {dims:?}, but the other experts of this layer are {} {:?}", e.dtype, e.dims);
        }
        if e.pieces.insert(i, piece).is_some() {
            bail!(BadCheckpoint, "is in the checkpoint more than once");
        }
        Ok(())
    }

    /// Name, type, dims and pieces of each tensor, which must have all of `n` experts.
    pub(super) fn finish(self, n: usize) -> Result<impl Iterator<Item = (String, DType, Vec<u64>, Vec<Piece>)>> {
        for (own, e) in &self.0 {
            let (have, last) = (e.pieces.len(), e.pieces.last_key_value().map_or(0, |(i, _)| *i));
            if have != n || last + 1 != n {
                let detail = format!("the checkpoint has {have} experts, the last is number {last}; expected {n}");
                return Err(Error::new(ErrorKind::MissingTensor, detail).at(own));
            }
        }
        Ok(self.0.into_iter().map(move |(own, e)| {
            let dims = [e.dims, vec![n as u64]].concat();
            (own, e.dtype, dims, e.pieces.into_values().collect())
        }))
    }
}
