//! OpenAI's HTTP API over a model: requests are checked and read, answers are shaped.
//!
//! There are no sockets, no clock and no random numbers here. A host gives [`Api::request`] a method, a path and a body, and
//! gets a [`Job`]: a body that is known at once, texts to embed, or prompts to add to an [`engine::Batch`]. What the engine
//! says of the generations goes into an [`Answer`], which gives the events of a stream or, in the end, the whole body.
//!
//! Parameters that are not known are accepted and named as warnings. A known one with a wrong type, or with a value that
//! would do nothing here, is refused with its path.
//!
//! [`engine::Batch`]: crate::engine::Batch

mod answer;
mod base64;
mod calls;
mod chat;
mod completions;
mod constraint;
mod conversation;
mod embeddings;
mod error;
mod fields;
mod given;
mod grammar;
mod items;
mod job;
mod journal;
mod logprobs;
mod messages;
mod model;
mod news;
mod output;
mod params;
mod pictures;
mod ranking;
mod reply;
mod rerank;
mod responses;
mod routes;
mod runs;
mod thinking;
mod tools;
mod unmarked;
mod usage;

pub use answer::{Answer, Chunk};
pub use embeddings::Embed;
pub use error::ApiError;
pub use given::Given;
pub use job::{Accepted, Generate, Job, Prompt};
pub use model::{Api, Names};
pub use news::{Asked, News, Piece, Response, Seen};
pub use pictures::{Picture, PictureSource};
pub use runs::{Host, Runs};
