//! A file from a server, taken up where it was: after a broken connection, and after the program was killed.

use std::fs::{File, OpenOptions};
use std::io::{self as stdio, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use pagelm::gguf::{Gguf, Progress, Reader};
use pagelm::{Error, ErrorKind, Result};
use sha2::Digest;
use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use super::log::{BLOCK, Log, Remote};

/// Tries without a new byte before a download is given up.
const TRIES: u32 = 5;

/// Without a byte for so long, a connection counts as broken.
const STALL: Duration = Duration::from_secs(30);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// The most bytes of a list of files.
const MOST_TEXT: u64 = 64 << 20;

/// As `Cargo.toml` chooses it.
const TLS: TlsProvider =
    if cfg!(any(target_vendor = "apple", windows)) { TlsProvider::NativeTls } else { TlsProvider::Rustls };

/// Hears of a download: its address, bytes that are there, and bytes of the whole, where known.
pub type Show<'a> = &'a dyn Fn(&str, u64, Option<u64>);

/// A file that is wanted.
pub struct Wish {
    pub url: String,
    /// Its SHA-256 in small hexadecimal digits, if it is known.
    pub sha256: Option<String>,
}

pub fn io(path: &Path, e: &stdio::Error) -> Error {
    Error::new(ErrorKind::Io, e.to_string()).at(path.display())
}

pub struct Client {
    agent: Agent,
    hub: String,
    token: Option<String>,
}

/// Why a try ended.
enum Failed {
    /// Another one may go well, after so long if the server says it.
    Again(Error, Option<Duration>),
    Final(Error),
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Failed::Final(e)
    }
}

impl Client {
    pub fn new(hub: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(STALL))
            .timeout_recv_response(Some(STALL))
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().provider(TLS).build())
            .build();
        let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
        Self { agent: config.into(), hub: hub.trim_end_matches('/').to_string(), token }
    }

    /// A short text.
    pub fn text(&self, url: &str) -> Result<String> {
        again(|| {
            let text = self.connect(url, 0, None)?.into_body().into_with_config().limit(MOST_TEXT).read_to_string();
            text.map_err(|e| Failed::Again(network(url, &e), None))
        })
    }

    /// The header of a file, and how long the file is.
    pub fn header(&self, url: &str) -> Result<(Gguf, u64)> {
        again(|| self.try_header(url))
    }

    fn try_header(&self, url: &str) -> std::result::Result<(Gguf, u64), Failed> {
        let response = self.connect(url, 0, None)?;
        let size = length(response.headers());
        let mut reader = Reader::new(size);
        let pieces = read_beside(response.into_body());
        loop {
            let piece = next_piece(&pieces, url)?;
            if piece.is_empty() {
                return Err(Failed::Final(reader.truncated().at(url)));
            }
            if let Progress::Done(gguf) = reader.push(&piece).map_err(|e| e.at(url))? {
                let end = gguf.tensors.iter().map(|t| t.offset + t.len).max().unwrap_or(0);
                return Ok((*gguf, size.unwrap_or(end)));
            }
        }
    }

    /// Makes a file complete, if it is not.
    pub fn fetch(&self, wish: &Wish, path: &Path, part: &Path, show: Show<'_>) -> Result<()> {
        if path.exists() {
            return Ok(());
        }
        let _lock = lock(part)?;
        let mut log = Log::open(part, &wish.url)?;
        let mut tried = 0;
        loop {
            let before = log.have;
            match self.go_on(&mut log, show) {
                Ok(()) => break,
                Err(failed) => {
                    tried = if log.have > before { 0 } else { tried };
                    wait(failed, tried)?;
                    tried += 1;
                }
            }
        }
        let sum: String = log.sum.clone().finalize().iter().map(|b| format!("{b:02x}")).collect();
        if let Some(want) = wish.sha256.as_ref().filter(|want| **want != sum) {
            log.discard()?;
            let detail = format!("the file has the SHA-256 {sum}, expected {want}; it was removed: download it again");
            return Err(Error::new(ErrorKind::BadChecksum, detail).at(&wish.url));
        }
        log.finish(path)
    }

    /// Reads from where the file ends to the end.
    fn go_on(&self, log: &mut Log, show: Show<'_>) -> std::result::Result<(), Failed> {
        let url = log.remote.url.clone();
        if log.remote.size.is_some_and(|size| size == log.have) && log.have > 0 {
            return Ok(());
        }
        let response = self.connect(&url, log.have, log.remote.etag.as_deref())?;
        let changed = || network(&url, &"the file on the server has changed");
        if response.status() == 416 {
            // It has no bytes there any more.
            log.restart(Remote { url: url.clone(), ..Remote::default() })?;
            return Err(Failed::Again(changed(), Some(Duration::ZERO)));
        }
        let headers = response.headers();
        let part = response.status() == 206;
        let etag = text_of(headers, header::ETAG);
        let size = if part { range_total(headers, log.have, &url)? } else { length(headers) };
        let remote = Remote { url: url.clone(), etag, size };
        if !part || remote != log.remote {
            if part && log.have > 0 {
                // A range of another file than that of the bytes before.
                log.restart(Remote { url: url.clone(), ..Remote::default() })?;
                return Err(Failed::Again(changed(), Some(Duration::ZERO)));
            }
            log.restart(remote)?;
        }
        let pieces = read_beside(response.into_body());
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            // What is left at a break is read again; at the end of the file it is the last block.
            let piece = next_piece(&pieces, &url)?;
            let ended = piece.is_empty();
            block.extend_from_slice(&piece);
            if log.have == 0 && block.len() >= 4 && !block.starts_with(b"GGUF") {
                let start = String::from_utf8_lossy(&block[..block.len().min(60)]).into_owned();
                let detail =
                    format!("the server sent no GGUF file, but what starts with {start:?}; is the address right?");
                return Err(Failed::Final(Error::new(ErrorKind::NotGguf, detail).at(&url)));
            }
            while block.len() >= BLOCK {
                log.append(&block[..BLOCK])?;
                block.drain(..BLOCK);
                show(&url, log.have, log.remote.size);
            }
            if !ended {
                continue;
            }
            let have = log.have + block.len() as u64;
            if let Some(size) = log.remote.size.filter(|size| *size != have) {
                let e = format!("the connection ended after {have} of {size} bytes");
                return Err(Failed::Again(network(&url, &e), None));
            }
            if !block.is_empty() {
                log.append(&block)?;
            }
            show(&url, log.have, Some(log.have));
            return Ok(());
        }
    }

    /// The answer to a request of the bytes from `start` on, if the file is still the same.
    fn connect(&self, url: &str, start: u64, etag: Option<&str>) -> std::result::Result<Response<Body>, Failed> {
        let mut request = self.agent.get(url);
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
            if let Some(etag) = etag.filter(|etag| !etag.starts_with("W/")) {
                request = request.header(header::IF_RANGE, etag);
            }
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.starts_with(&format!("{}/", self.hub))) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call().map_err(|e| match e {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Failed::Final(Error::new(ErrorKind::InvalidArgument, e.to_string()).at(url))
            }
            _ => Failed::Again(network(url, &e), None),
        })?;
        let status = response.status().as_u16();
        let remedy = match status {
            200 | 206 => return Ok(response),
            416 if start > 0 => return Ok(response),
            401 | 403 => "; the model may need a token: set HF_TOKEN",
            404 => "; is the address right?",
            _ => "",
        };
        let e = Error::new(ErrorKind::HttpStatus, format!("the server answered with status {status}{remedy}")).at(url);
        let seconds = text_of(response.headers(), header::RETRY_AFTER).and_then(|s| s.parse().ok());
        match status {
            408 | 425 | 429 | 500..=599 => Err(Failed::Again(e, seconds.map(Duration::from_secs))),
            _ => Err(Failed::Final(e)),
        }
    }
}

/// Reads a body in a thread of its own, so that one that stalls can be given up. The last piece is empty, or an error.
fn read_beside(body: Body) -> Receiver<stdio::Result<Vec<u8>>> {
    let (send, receive) = sync_channel(16);
    let mut body = body.into_reader();
    thread::spawn(move || {
        let mut bytes = vec![0; PIECE];
        loop {
            let piece = body.read(&mut bytes).map(|n| bytes[..n].to_vec());
            let over = piece.as_ref().map_or(true, Vec::is_empty);
            if send.send(piece).is_err() || over {
                return;
            }
        }
    });
    receive
}

/// The next piece of a body; an empty one at its end.
fn next_piece(pieces: &Receiver<stdio::Result<Vec<u8>>>, url: &str) -> std::result::Result<Vec<u8>, Failed> {
    match pieces.recv_timeout(STALL) {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(e)) => Err(Failed::Again(network(url, &e), None)),
        Err(_) => {
            let e = format!("no byte came for {} s", STALL.as_secs());
            Err(Failed::Again(network(url, &e), None))
        }
    }
}

/// Tries until it goes well, or too often.
fn again<T>(work: impl Fn() -> std::result::Result<T, Failed>) -> Result<T> {
    let mut tried = 0;
    loop {
        match work() {
            Ok(done) => return Ok(done),
            Err(failed) => wait(failed, tried)?,
        }
        tried += 1;
    }
}

/// Waits before the next try: twice as long each time, or as the server says.
fn wait(failed: Failed, tried: u32) -> Result<()> {
    match failed {
        Failed::Again(e, after) if tried + 1 < TRIES => {
            let wait = after.unwrap_or_else(|| Duration::from_millis(500) * 2u32.pow(tried)).min(LONGEST_WAIT);
            tracing::warn!("{e}; trying again in {:.1} s", wait.as_secs_f32());
            thread::sleep(wait);
            Ok(())
        }
        Failed::Again(e, _) | Failed::Final(e) => Err(e),
    }
}

fn network(url: &str, e: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Network, e.to_string()).at(url)
}

/// Only one program downloads a file at a time; the lock ends with the program.
fn lock(part: &Path) -> Result<File> {
    let made = part.parent().map_or(Ok(()), std::fs::create_dir_all);
    let open = || OpenOptions::new().write(true).create(true).truncate(false).open(part);
    let file = made.and_then(|()| open()).map_err(|e| io(part, &e))?;
    file.try_lock().map_err(|_| {
        let detail = "another program downloads this file; wait until it is done";
        Error::new(ErrorKind::InvalidState, detail).at(part.display())
    })?;
    Ok(file)
}

fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_string)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text_of(headers, header::CONTENT_LENGTH)?.parse().ok()
}

/// The length of the whole file, by the answer to a request for a range.
fn range_total(headers: &HeaderMap, start: u64, url: &str) -> Result<Option<u64>> {
    let range = text_of(headers, header::CONTENT_RANGE).unwrap_or_default();
    let parsed = range.strip_prefix("bytes ").and_then(|r| {
        let (bytes, total) = r.split_once('/')?;
        let from: u64 = bytes.split_once('-')?.0.parse().ok()?;
        (from == start).then(|| total.parse().ok())
    });
    parsed.ok_or_else(|| {
        let detail = format!("the server sent the range `{range}`, asked for the bytes from {start} on");
        Error::new(ErrorKind::HttpStatus, detail).at(url)
    })
}
