//! Memory that may be too much to have.

use crate::error::{Error, ErrorKind, Result};

/// `n` zeros. The error is memory that is not there.
pub(super) fn zeros<T: bytemuck::Zeroable + Copy>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>());
    v.try_reserve_exact(n).map_err(|_| Error::new(ErrorKind::OutOfMemory, format!("cannot allocate {bytes} bytes")))?;
    v.resize(n, T::zeroed());
    Ok(v)
}
