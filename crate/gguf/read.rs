//! The incremental reader: takes the start of a file in pieces of any size and feeds the parser whole items.
//!
//! Every item of a header has a length that is known before the item is read: a fixed one, or one that the item before
//! it gave. The reader holds back bytes only until the item is complete, so a piece of one byte costs one append.

use super::header::Gguf;
use super::limits::Room;
use super::parse::Parser;
use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// The memory bound: at no time does reading hold more than this many bytes per header byte received, plus
/// [`MEMORY_BASE`]. The worst items are one-byte array elements (8 bytes once read) and the shortest entries (14 bytes,
/// against a half-empty tree node's share of about 190).
pub const MEMORY_FACTOR: u64 = 16;

/// What reading may hold however short the header is.
pub const MEMORY_BASE: u64 = 1 << 20;

/// What a [`Reader`] says after a piece.
#[derive(Debug)]
pub enum Progress {
    /// The header goes on: push the bytes that follow.
    NeedMore,
    /// The header is complete.
    Done(Box<Gguf>),
}

/// Takes the start of a file in pieces of any size.
#[derive(Debug)]
pub struct Reader {
    room: Room,
    /// The bytes of the present item, while it is incomplete.
    pending: Vec<u8>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Reading(Box<Parser>),
    Done,
    Failed(Error),
}

impl Gguf {
    /// Reads the header at the start of a whole file.
    pub fn parse(file: &[u8]) -> Result<Gguf> {
        let mut reader = Reader::new(Some(file.len() as u64));
        match reader.push(file)? {
            Progress::Done(gguf) => Ok(*gguf),
            Progress::NeedMore => Err(reader.truncated()),
        }
    }
}

impl Reader {
    /// `file_len` is checked against every length in the header and every tensor's end where it is known. Where it is
    /// not, call [`Gguf::check_len`] as soon as it is.
    pub fn new(file_len: Option<u64>) -> Self {
        Self { room: Room { pos: 0, file_len }, pending: Vec::new(), phase: Phase::Reading(Box::default()) }
    }

    /// Takes the bytes that follow those pushed before. Bytes after the header are ignored; once the header was
    /// returned, or an error was, the reader takes no more (an error is returned again).
    pub fn push(&mut self, piece: &[u8]) -> Result<Progress> {
        let parser = match &mut self.phase {
            Phase::Reading(parser) => parser,
            Phase::Done => bail!(
                InvalidState,
                "the header is complete; the bytes that follow are tensor data, which the loader takes"
            ),
            Phase::Failed(e) => return Err(e.clone()),
        };
        match feed(parser, &mut self.room, &mut self.pending, piece) {
            Ok(false) => Ok(Progress::NeedMore),
            Ok(true) => match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Reading(parser) => self.finish(*parser),
                _ => unreachable!("the phase was matched above"),
            },
            Err(e) => Err(self.fail(e)),
        }
    }

    /// The bytes held back because the item that they belong to is incomplete.
    pub fn buffered(&self) -> usize {
        self.pending.len()
    }

    /// The header bytes taken so far, without those [`buffered`](Self::buffered). Tensor data starts a little later, at
    /// [`Gguf::data_offset`].
    pub fn consumed(&self) -> u64 {
        self.room.pos
    }

    /// The error for a file that ended while more was needed.
    pub fn truncated(&self) -> Error {
        let at = self.room.pos + self.pending.len() as u64;
        let e = Error::new(ErrorKind::GgufTruncated, "the file ends inside its header; is the download complete?");
        match &self.phase {
            Phase::Reading(parser) => parser.place(e, at),
            _ => e.at(format!("byte {at}")),
        }
    }

    fn finish(&mut self, parser: Parser) -> Result<Progress> {
        match parser.finish(&self.room) {
            Ok(gguf) => Ok(Progress::Done(Box::new(gguf))),
            Err(e) => Err(self.fail(e)),
        }
    }

    fn fail(&mut self, e: Error) -> Error {
        self.pending = Vec::new();
        self.phase = Phase::Failed(e.clone());
        e
    }
}

/// Feeds `piece` item by item; true when the header is complete.
fn feed(parser: &mut Parser, room: &mut Room, pending: &mut Vec<u8>, mut piece: &[u8]) -> Result<bool> {
    while let Some(need) = parser.need() {
        room.claim(need as u64).map_err(|e| parser.place(e, room.pos))?;
        let missing = need - pending.len();
        let Some((head, rest)) = piece.split_at_checked(missing) else {
            pending.extend_from_slice(piece);
            return Ok(false);
        };
        piece = rest;
        let item = if pending.is_empty() {
            head
        } else {
            pending.extend_from_slice(head);
            &pending[..]
        };
        let start = room.pos;
        room.pos += need as u64;
        parser.step(item, room).map_err(|e| parser.place(e, start))?;
        pending.clear();
        pending.shrink_to(KEEP);
    }
    Ok(true)
}

/// The capacity kept between items, so that short items do not allocate each time.
const KEEP: usize = 64 << 10;
