//! The cache in a file.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use pagelm::engine::Session;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;

/// Writes what is in the cache. The file is there whole or not at all.
pub fn save(session: &mut Session, path: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::new(ErrorKind::InvalidArgument, e.to_string()).at(path.display());
    let partial = path.with_added_extension("partial");
    let mut file = BufWriter::new(File::create(&partial).map_err(failed)?);
    let (engine, sequence) = session.parts();
    block_on(engine.save(sequence, &mut |bytes| file.write_all(bytes).map_err(failed)))?;
    file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)?;
    fs::rename(&partial, path).map_err(failed)
}

/// Puts what a file has into the cache.
pub fn load(session: &mut Session, path: &Path) -> Result<()> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::new(ErrorKind::BadSnapshot, "the file ends before the sequence does")
        }
        _ => Error::new(ErrorKind::InvalidArgument, e.to_string()),
    };
    let mut restored = || {
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let (engine, sequence) = session.parts();
        *sequence = engine.restore(&mut |out| file.read_exact(out).map_err(failed))?;
        Ok(())
    };
    restored().map_err(|e: Error| e.at(path.display()))
}
