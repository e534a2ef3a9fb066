//! Large allocations that may fail.

use crate::error::{Error, ErrorKind, Result};

/// `n` zeros. Fails if there is not enough memory.
pub(super) fn zeros<T: bytemuck::Zeroable + Copy>(n: usize) -> Result<Vec<T>> {
    let mut v = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>());
    v.try_reserve_exact(n).map_err(|_| Error::new(ErrorKind::OutOfMemory, format!("cannot allocate {bytes} bytes")))?;
    v.resize(n, T::zeroed());
    Ok(v)
}
