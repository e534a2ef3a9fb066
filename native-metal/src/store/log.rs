//! What a file has that is not complete: a line for the file on the server, and the digest of each block that was written.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use pagelm::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::download::io;

/// What the name of a log ends with.
pub const LOG: &str = "log";

/// Bytes of a block: what a torn end costs at most.
pub const BLOCK: usize = 1 << 20;

/// The file as the server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    pub url: String,
    pub etag: Option<String>,
    pub size: Option<u64>,
}

/// The log of a file that grows, and the file.
pub struct Log {
    pub remote: Remote,
    /// Bytes that are there and have their digests.
    pub have: u64,
    /// Of all of them.
    pub sum: Sha256,
    file: File,
    log: File,
    part: PathBuf,
}

pub fn path_of(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".");
    name.push(LOG);
    name.into()
}

fn hex(block: &[u8]) -> String {
    Sha256::digest(block).iter().map(|b| format!("{b:02x}")).collect()
}

impl Log {
    /// Goes on with a file if it is of this address; of what is there, the blocks up to the first one that is torn or
    /// damaged.
    pub fn open(part: &Path, url: &str) -> Result<Self> {
        let failed = |e: std::io::Error| io(part, &e);
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let (mut file, mut log) = (open(part).map_err(failed)?, open(&path_of(part)).map_err(failed)?);
        let mut text = String::new();
        // One that is not text is one that is damaged.
        let _ = log.read_to_string(&mut text);
        let mut lines = text.lines();
        let remote = lines.next().and_then(|line| serde_json::from_str::<Remote>(line).ok());
        let remote = remote.filter(|r| r.url == url);
        let mut this = Self {
            remote: Remote { url: url.to_string(), ..Remote::default() },
            have: 0,
            sum: Sha256::new(),
            file: file.try_clone().map_err(failed)?,
            log,
            part: part.to_owned(),
        };
        let Some(remote) = remote else {
            this.restart(Remote { url: url.to_string(), ..Remote::default() })?;
            return Ok(this);
        };
        let mut digests = Vec::new();
        let mut block = vec![0; BLOCK];
        for line in lines {
            let mut n = 0;
            while n < BLOCK {
                match file.read(&mut block[n..]) {
                    Ok(0) => break,
                    Ok(more) => n += more,
                    Err(e) => return Err(failed(e)),
                }
            }
            if n < BLOCK || hex(&block) != line {
                break;
            }
            this.sum.update(&block);
            this.have += BLOCK as u64;
            digests.push(line.to_string());
        }
        let (have, sum) = (this.have, std::mem::take(&mut this.sum));
        this.begin(remote, &digests, have)?;
        (this.have, this.sum) = (have, sum);
        Ok(this)
    }

    /// Forgets all bytes: the file on the server is another one.
    pub fn restart(&mut self, remote: Remote) -> Result<()> {
        (self.have, self.sum) = (0, Sha256::new());
        self.begin(remote, &[], 0)
    }

    /// Writes the log anew, with the digests of what stays.
    fn begin(&mut self, remote: Remote, digests: &[String], have: u64) -> Result<()> {
        use std::io::{Seek, SeekFrom};
        let line = serde_json::to_string(&remote).expect("it has no maps");
        self.remote = remote;
        let text: String = [line].iter().chain(digests).map(|line| format!("{line}\n")).collect();
        let mut write = || {
            self.file.set_len(have)?;
            self.file.seek(SeekFrom::Start(have))?;
            self.log.set_len(0)?;
            self.log.seek(SeekFrom::Start(0))?;
            self.log.write_all(text.as_bytes())
        };
        write().map_err(|e| io(&self.part, &e))
    }

    /// Appends a block, or what is left at the end of the file, and then its digest: a digest never lies.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut write = || {
            self.file.write_all(bytes)?;
            self.log.write_all(format!("{}\n", hex(bytes)).as_bytes())
        };
        write().map_err(|e| io(&self.part, &e))?;
        self.sum.update(bytes);
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file a complete one.
    pub fn finish(self, path: &Path) -> Result<()> {
        self.file.sync_all().map_err(|e| io(path, &e))?;
        std::fs::rename(&self.part, path).map_err(|e| io(path, &e))?;
        std::fs::remove_file(path_of(&self.part)).map_err(|e| io(path, &e))
    }

    /// Removes what there is of a file that is not what it should be.
    pub fn discard(self) -> Result<()> {
        std::fs::remove_file(&self.part).map_err(|e| io(&self.part, &e))?;
        std::fs::remove_file(path_of(&self.part)).map_err(|e| io(&self.part, &e))
    }
}
