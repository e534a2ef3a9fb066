//! What runs bring to their callers.

use serde::Serialize;

use super::answer::Chunk;
use super::error::ApiError;
use super::journal::Entry;
use crate::engine::{Engine, Event};
use crate::error::{Error, Result};

/// What came of a run.
pub struct News {
    /// Its number.
    pub run: u32,
    /// What its caller gets, in this order.
    pub pieces: Vec<Piece>,
    /// What the run has done for that. Of all that were returned together another engine makes the same run again: see
    /// [`Runs::request`](super::Runs::request).
    pub journal: Vec<u32>,
    /// Whether it is over.
    pub done: bool,
    /// Why a generation ended early. Requests have a body that says so.
    pub error: Option<Error>,
}

impl News {
    pub(super) fn new(run: u32, pieces: Vec<Piece>, done: bool) -> Self {
        let mut journal = Vec::new();
        if done {
            Entry::Over.write(&mut journal);
        }
        Self { run, pieces, journal, done, error: None }
    }
}

/// What came of a request.
#[derive(Debug)]
pub struct Asked {
    /// The number under which it runs, unless it is answered.
    pub run: Option<u32>,
    /// What there is of the response.
    pub pieces: Vec<Piece>,
    /// As that of [`News`].
    pub journal: Vec<u32>,
}

impl Asked {
    /// It is answered.
    pub(super) fn with(pieces: Vec<Piece>) -> Self {
        Self { run: None, journal: News::new(0, Vec::new(), true).journal, pieces }
    }
}

/// What the caller of a run gets.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Piece {
    /// Of a generation; of a request only how much of its prompt is read.
    Event(Event),
    /// Of a request: how much of its images is encoded.
    Seen(Seen),
    /// Of the response to a request.
    Response(Response),
}

/// How much of the images of a request is encoded, before its prompt is read. It looks like the progress of a prompt but for its
/// phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename = "prefill")]
pub struct Seen {
    /// `image`.
    pub phase: &'static str,
    /// Rows of the encoder's ops that have run.
    pub done: u64,
    /// Those of all images.
    pub total: u64,
}

/// A part of the response to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Response {
    /// Comes first.
    Head {
        /// The HTTP status.
        status: u16,
        /// Whether the body is a stream of events, of which each part has one.
        stream: bool,
        /// Names of parameters that were left out, as [`Accepted::unknown`](super::Accepted::unknown).
        unknown: String,
    },
    /// The whole body, or an event of it.
    Body {
        /// JSON, or text/event-stream.
        text: String,
    },
}

impl From<Response> for Piece {
    fn from(part: Response) -> Self {
        Piece::Response(part)
    }
}

pub(super) fn events(chunks: Vec<Chunk>) -> impl Iterator<Item = Piece> {
    chunks.into_iter().map(|chunk| Response::Body { text: chunk.to_sse() }.into())
}

pub(super) fn whole(status: u16, text: String, unknown: String) -> Vec<Piece> {
    vec![Response::Head { status, stream: false, unknown }.into(), Response::Body { text }.into()]
}

pub(super) fn refusal(e: &ApiError, unknown: String) -> Vec<Piece> {
    whole(e.status, e.body(), unknown)
}

/// Nothing that a broken engine has said counts.
pub(super) fn unless_broken<T>(engine: &Engine, value: T) -> Result<T> {
    engine.backend().fault().map_or(Ok(value), Err)
}
