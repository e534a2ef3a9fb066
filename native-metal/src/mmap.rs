//! Files: models in memory without a copy, and reference numbers.

use std::borrow::Cow;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use pagelm::gguf::{Source, TensorInfo};
use pagelm::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

/// A file that is mapped read-only.
pub struct Mapped(Mmap);

impl Mapped {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| io_error(path, &e))?;
        // SAFETY: the map is read-only. Someone who truncates the file meanwhile ends the process with a signal, and
        // someone who writes to it changes weights: both are theirs to avoid, as with any program that maps a file.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| io_error(path, &e))?;
        Ok(Self(map))
    }
}

/// The mapped files of a model, as if they lay one after another, each with the byte at which it starts. It lets go of the
/// memory of what was used: the files stay where they are.
pub struct MappedModel(pub Vec<(u64, Mapped)>);

impl MappedModel {
    /// The file that a tensor is in, and where it is there.
    fn place(&self, info: &TensorInfo) -> (&Mapped, TensorInfo) {
        let i = self.0.partition_point(|(start, _)| *start <= info.offset).saturating_sub(1);
        let (start, file) = &self.0[i];
        (file, TensorInfo { offset: info.offset - start, ..info.clone() })
    }
}

impl Source for MappedModel {
    fn tensor(&self, info: &TensorInfo) -> Result<Cow<'_, [u8]>> {
        let (file, info) = self.place(info);
        file.tensor(&info)
    }

    fn used(&self, info: &TensorInfo, bytes: Range<usize>) {
        #[cfg(unix)]
        {
            let (file, info) = self.place(info);
            let start = info.offset as usize + bytes.start;
            // SAFETY: the map is read-only and of a file, so pages that are read again come back as they were. It is
            // only advice: where it fails nothing changes.
            let _ = unsafe { file.0.unchecked_advise_range(UncheckedAdvice::DontNeed, start, bytes.len()) };
        }
        #[cfg(not(unix))]
        let _ = (info, bytes);
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

pub fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| io_error(path, &e))
}

/// A JSON file of a known shape.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = read_text(path)?;
    serde_json::from_str(&text).map_err(|e| {
        let detail = format!("does not have the format that this command reads: {e}");
        Error::new(ErrorKind::InvalidArgument, detail).at(path.display())
    })
}

fn io_error(path: &Path, e: &std::io::Error) -> Error {
    Error::new(ErrorKind::Io, e.to_string()).at(path.display())
}
