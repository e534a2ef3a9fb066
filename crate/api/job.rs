//! What a request asks a host to do.

use std::sync::Arc;

use super::answer::Answer;
use super::embeddings::Embed;
use super::pictures::Picture;
use crate::engine::{Engine, GenerateParams, Image, place_images};
use crate::error::Result;
use crate::text::Tokenizer;

/// A request that can be served.
pub struct Accepted {
    /// What is to be done.
    pub job: Job,
    /// Paths of parameters that are not known, and were left out.
    pub warnings: Vec<String>,
}

/// Characters of the names of parameters that a response has in a header.
const MOST_NAMES: usize = 1024;

impl Accepted {
    /// The warnings as ASCII, which fits a header of the response: empty if there are none.
    pub fn unknown(&self) -> String {
        let mut text = self.warnings.join(", ").escape_default().to_string();
        text.truncate(MOST_NAMES);
        text
    }
}

/// What is to be done for a request.
pub enum Job {
    /// Nothing: this is the body.
    Body(String),
    /// Texts to embed.
    Embed(Embed),
    /// Prompts to continue.
    Generate(Box<Generate>),
}

/// Generations, side by side.
pub struct Generate {
    /// In the order of their indexes.
    pub prompts: Vec<Prompt>,
    /// The images of which the prompts have the places, in their order: see [`Prompt::place`].
    pub pictures: Vec<Picture>,
    /// Whether the answer is sent as it comes.
    pub stream: bool,
    /// Takes what the engine says of them.
    pub answer: Answer,
}

/// What one generation starts with.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its tokens.
    pub ids: Arc<[u32]>,
    /// How it goes on.
    pub params: GenerateParams,
}

impl Prompt {
    /// Puts the images of a request into its prompts, which are answers to the same messages.
    pub fn place(prompts: &mut [Self], tokenizer: &Tokenizer, images: &[Image]) -> Result<()> {
        if let Some(first) = prompts.first() {
            let ids: Arc<[u32]> = place_images(tokenizer, &first.ids, images)?.into();
            prompts.iter_mut().for_each(|prompt| prompt.ids = ids.clone());
        }
        Ok(())
    }

    /// Refuses a prompt that does not fit in the context with its first images, which have so many rows: before they are made.
    pub fn check_room(prompts: &[Self], engine: &Engine, rows: impl Iterator<Item = usize>) -> Result<()> {
        // Each has a place already.
        let more: usize = rows.map(|n| n - 1).sum();
        prompts.first().map_or(Ok(()), |prompt| engine.check_room(0, prompt.ids.len() + more))
    }

    /// `n` generations after each prompt; of one prompt the `i`-th has the seed of the request and `i`.
    pub(super) fn times(prompts: Vec<Vec<u32>>, n: usize, params: &GenerateParams) -> Vec<Self> {
        let of = |ids: Vec<u32>| {
            let ids: Arc<[u32]> = ids.into();
            (0..n).map(move |i| {
                let mut params = params.clone();
                params.sampler.seed = params.sampler.seed.wrapping_add(i as u64);
                Self { ids: ids.clone(), params }
            })
        };
        prompts.into_iter().flat_map(of).collect()
    }
}
