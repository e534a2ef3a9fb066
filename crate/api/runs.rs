//! What runs for a page, by number: requests, and generations beside them.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::answer::{Answer, Chunk};
use super::embeddings::Embed;
use super::error::ApiError;
use super::given::Given;
use super::job::{Generate, Job, Prompt};
use super::model::Api;
use super::pictures::Picture;
use crate::engine::{Batch, Encoder, Engine, Event, GenerateParams, Image, Processed, Seeing, Sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Pixels;
use crate::text::Tokenizer;

/// As many texts as a step has room for.
const TEXTS_AT_ONCE: usize = 16;

/// What came of a run.
pub struct News {
    /// Its number.
    pub run: u32,
    /// What its caller gets, in this order.
    pub pieces: Vec<Piece>,
    /// Whether it is over.
    pub done: bool,
    /// Why a generation ended early. Requests have a body that says so.
    pub error: Option<Error>,
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
    /// Ops that have run.
    pub done: usize,
    /// Those of all images.
    pub total: usize,
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

enum Run {
    /// A generation, as this lane of the batch.
    Generation(u64),
    /// An answer of several; none of them is left once it is over.
    Answer { lanes: Vec<u64>, answer: Answer, stream: bool, unknown: String },
    /// Texts to embed, and the vectors of the first of them.
    Embed { embed: Embed, vectors: Vec<Vec<f32>>, unknown: String },
    /// A request whose images are not all encoded: the first are, and some more are decoded.
    See { generate: Box<Generate>, images: Vec<Image>, decoded: VecDeque<Result<Processed>>, unknown: String },
}

impl Run {
    fn lanes(&self) -> &[u64] {
        match self {
            Run::Generation(lane) => std::slice::from_ref(lane),
            Run::Answer { lanes, .. } => lanes,
            Run::Embed { .. } | Run::See { .. } => &[],
        }
    }
}

/// What runs need.
pub struct Host<'a> {
    /// On which they run.
    pub engine: &'a mut Engine,
    /// What encodes images for it, if it sees.
    pub encoder: Option<&'a mut Encoder>,
    /// That of its model.
    pub tokenizer: &'a Tokenizer,
    /// The time in milliseconds, from any start.
    pub now: &'a dyn Fn() -> f64,
}

/// Requests and generations that run side by side, in steps that they share.
pub struct Runs {
    all: BTreeMap<u32, Run>,
    last: u32,
    batch: Batch,
}

impl Runs {
    /// At most `most` generations at once; others wait.
    pub fn new(most: usize) -> Self {
        Self { all: BTreeMap::new(), last: 0, batch: Batch::new(most) }
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn insert(&mut self, run: Run) -> u32 {
        self.last += 1;
        self.all.insert(self.last, run);
        self.last
    }

    /// The images of a request that has just come, in their order. It waits until [`Runs::picture`] has got them.
    pub fn pictures(&self, id: u32) -> &[Picture] {
        match self.all.get(&id) {
            Some(Run::See { generate, .. }) => &generate.pictures,
            _ => &[],
        }
    }

    /// Takes the next image of a request, or the reason why there is none. A request that is over takes nothing.
    pub fn picture(&mut self, encoder: Option<&Encoder>, id: u32, pixels: Result<Pixels<'_>>) {
        let Some(Run::See { generate, images, decoded, .. }) = self.all.get_mut(&id) else { return };
        let Some(picture) = generate.pictures.get(images.len() + decoded.len()) else { return };
        let missing = || Error::new(ErrorKind::NoImages, "there is no encoder");
        let process = |image| encoder.ok_or_else(missing)?.processor().process(&image, picture.max_pixels);
        decoded.push_back(pixels.and_then(process));
    }

    /// Adds a generation, which may go on from what these sequences have in the cache.
    pub fn generate<'a>(
        &mut self,
        host: Host<'_>,
        others: impl Iterator<Item = &'a Sequence>,
        ids: &[u32],
        params: GenerateParams,
    ) -> Result<u32> {
        let lane = self.batch.add_beside(others, host.engine, host.tokenizer, ids, params, (host.now)())?;
        Ok(self.insert(Run::Generation(lane)))
    }

    /// Adds a request: a method, a path and a body, as in [`Api::request`]. Returns its number, unless it is answered, and what
    /// there is of the response. Generations may go on from what these sequences have in the cache.
    pub fn request<'a>(
        &mut self,
        host: Host<'_>,
        others: impl Iterator<Item = &'a Sequence> + Clone,
        api: &Api,
        request: (&str, &str, &[u8]),
        given: &Given,
    ) -> (Option<u32>, Vec<Piece>) {
        let (method, path, body) = request;
        let accepted = match api.request(method, path, body, given) {
            Ok(accepted) => accepted,
            Err(e) => return (None, refusal(&e, String::new())),
        };
        let unknown = accepted.unknown();
        match accepted.job {
            Job::Body(body) => (None, whole(200, body, unknown)),
            Job::Embed(embed) => (Some(self.insert(Run::Embed { embed, vectors: Vec::new(), unknown })), Vec::new()),
            Job::Generate(generate) if !generate.pictures.is_empty() => {
                let (images, decoded) = Default::default();
                (Some(self.insert(Run::See { generate, images, decoded, unknown })), Vec::new())
            }
            Job::Generate(generate) => match self.start(host, others, *generate, unknown) {
                Ok((run, pieces)) => (Some(self.insert(run)), pieces),
                Err(e) => (None, refusal(&e.into(), String::new())),
            },
        }
    }

    /// Adds all generations of a request, or none.
    fn start<'a>(
        &mut self,
        host: Host<'_>,
        others: impl Iterator<Item = &'a Sequence> + Clone,
        generate: Generate,
        unknown: String,
    ) -> Result<(Run, Vec<Piece>)> {
        let Generate { prompts, stream, mut answer, .. } = generate;
        let Host { engine, tokenizer, now, .. } = host;
        let mut lanes = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            match self.batch.add_beside(others.clone(), engine, tokenizer, &prompt.ids, prompt.params, now()) {
                Ok(lane) => lanes.push(lane),
                Err(e) => {
                    lanes.iter().for_each(|lane| self.batch.stop(engine, *lane));
                    return Err(e);
                }
            }
        }
        let mut pieces = Vec::new();
        if stream {
            pieces.push(Response::Head { status: 200, stream, unknown: unknown.clone() }.into());
            pieces.extend(events(answer.start()));
        }
        Ok((Run::Answer { lanes, answer, stream, unknown }, pieces))
    }

    /// One step of these runs: what it brought to which of them. Nothing if none can run.
    pub async fn next(&mut self, mut host: Host<'_>, wanted: &[u32]) -> Vec<News> {
        if let Some(news) = self.embed(host.engine, wanted).await {
            return vec![news];
        }
        // Others go on beside an image.
        let mut news: Vec<_> = self.see(&mut host, wanted).await.into_iter().collect();
        let Host { engine, tokenizer, now, .. } = host;
        let Self { all, batch, .. } = self;
        let left_out = all.iter().filter(|(id, _)| !wanted.contains(id));
        let left_out: Vec<u64> = left_out.flat_map(|(_, run)| run.lanes().iter().copied()).collect();
        batch.pause(|lane| left_out.contains(&lane));
        let events = match batch.next(engine, tokenizer, now).await {
            Ok(events) => events,
            // A step that fails is that of all.
            Err(e) => batch.clear(engine).into_iter().map(|lane| (lane, Err(e.clone()))).collect(),
        };
        news.extend(events.into_iter().filter_map(|(lane, event)| self.tell(engine, lane, event)));
        news
    }

    /// What an event of a lane is to its run. Lanes of a run that is over say nothing.
    fn tell(&mut self, engine: &mut Engine, lane: u64, event: Result<Event>) -> Option<News> {
        let (&id, run) = self.all.iter_mut().find(|(_, run)| run.lanes().contains(&lane))?;
        let (mut pieces, mut error, mut done) = (Vec::new(), None, event.is_err());
        match (run, event) {
            (Run::Answer { lanes, answer, stream, .. }, Ok(event)) => {
                let index = lanes.iter().position(|l| *l == lane)?;
                // The answers share their prompt.
                if let Event::Prefill { .. } = &event
                    && index == 0
                {
                    pieces.push(Piece::Event(event));
                } else {
                    pieces.extend(events(answer.push(index, event)));
                }
                done = answer.is_over();
                if done
                    && !*stream
                    && let Some(Run::Answer { answer, unknown, .. }) = self.all.remove(&id)
                {
                    pieces.extend(whole(200, answer.whole(), unknown));
                }
            }
            (Run::Answer { lanes, answer, stream, unknown }, Err(e)) => {
                lanes.iter().for_each(|lane| self.batch.stop(engine, *lane));
                let e = e.into();
                match stream {
                    true => pieces.extend(events(vec![answer.fail(&e)])),
                    false => pieces.extend(refusal(&e, std::mem::take(unknown))),
                }
            }
            (_, Ok(event)) => {
                done = matches!(event, Event::Done { .. });
                pieces.push(Piece::Event(event));
            }
            (_, Err(e)) => error = Some(e),
        }
        if done {
            self.all.remove(&id);
        }
        Some(News { run: id, pieces, done, error })
    }

    /// Embeds some texts of the first request for it, so that an abort comes in between.
    async fn embed(&mut self, engine: &mut Engine, wanted: &[u32]) -> Option<News> {
        let wants = |(id, run): &(&u32, &mut Run)| wanted.contains(id) && matches!(run, Run::Embed { .. });
        let (&id, Run::Embed { embed, vectors, unknown }) = self.all.iter_mut().find(wants)? else { return None };
        let from = vectors.len();
        let texts: Vec<_> = embed.texts[from..].iter().take(TEXTS_AT_ONCE).map(Vec::as_slice).collect();
        let mut pieces = Vec::new();
        match engine.embed(&texts, &embed.params).await {
            Ok(more) => vectors.extend(more),
            Err(e) => {
                let place = |e: Error| if from > 0 { e.at(format!("from text {from}")) } else { e };
                pieces = refusal(&place(e).into(), std::mem::take(unknown));
            }
        }
        if vectors.len() == embed.texts.len() {
            pieces = whole(200, embed.body(vectors), std::mem::take(unknown));
        }
        let done = !pieces.is_empty();
        if done {
            self.all.remove(&id);
        }
        Some(News { run: id, pieces, done, error: None })
    }

    /// Encodes a part of an image of the first request that has one, so that an abort comes in between. After its last image a
    /// request generates.
    async fn see(&mut self, host: &mut Host<'_>, wanted: &[u32]) -> Option<News> {
        let (&id, generate, images, decoded) = self.all.iter_mut().find_map(|(id, run)| match run {
            Run::See { generate, images, decoded, .. } if wanted.contains(id) && !decoded.is_empty() => {
                Some((id, generate, images, decoded))
            }
            _ => None,
        })?;
        let (picture, whole) = (&generate.pictures[images.len()], generate.pictures.len());
        let encoded = match &decoded[0] {
            Ok(image) => encode(host, &generate.prompts, images, image).await,
            Err(e) => Err(e.clone()),
        };
        let encoded = encoded.map_err(|e| picture.failed(e));
        let mut news = News { run: id, pieces: Vec::new(), done: false, error: None };
        match encoded {
            Ok(Seeing::Part { done, total }) => {
                let (done, total) = (images.len() * total + done, whole * total);
                news.pieces.push(Piece::Seen(Seen { phase: "image", done, total }));
                return Some(news);
            }
            Ok(Seeing::Whole(ref image)) => images.push(image.clone()),
            Err(_) => {}
        }
        decoded.pop_front();
        if encoded.is_ok() && images.len() < whole {
            return Some(news);
        }
        let Some(Run::See { mut generate, images, unknown, .. }) = self.all.remove(&id) else { return None };
        let started = encoded.and_then(|_| {
            Prompt::place(&mut generate.prompts, host.tokenizer, &images)?;
            let Host { engine, tokenizer, now, .. } = host;
            let host = Host { engine, encoder: None, tokenizer, now: *now };
            Ok(self.start(host, std::iter::empty(), *generate, unknown)?)
        });
        match started {
            Ok((run, pieces)) => {
                self.all.insert(id, run);
                news.pieces = pieces;
            }
            Err(e) => (news.pieces, news.done) = (refusal(&e, String::new()), true),
        }
        Some(news)
    }

    /// Ends a run, if it is not over.
    pub fn stop(&mut self, engine: &mut Engine, id: u32) {
        if let Some(run) = self.all.remove(&id) {
            run.lanes().iter().for_each(|lane| self.batch.stop(engine, *lane));
        }
    }
}

/// Encodes the next part of an image, if the prompt has room for it after those before it.
async fn encode(host: &mut Host<'_>, prompts: &[Prompt], images: &[Image], image: &Processed) -> Result<Seeing<Image>> {
    let rows = images.iter().map(|image| image.tokens().len()).chain([image.rows()]);
    Prompt::check_room(prompts, host.engine, rows)?;
    let Some(encoder) = &mut host.encoder else { crate::bail!(NoImages, "there is no encoder") };
    encoder.see_part(host.engine, image).await
}

fn events(chunks: Vec<Chunk>) -> impl Iterator<Item = Piece> {
    chunks.into_iter().map(|chunk| Response::Body { text: chunk.to_sse() }.into())
}

fn whole(status: u16, text: String, unknown: String) -> Vec<Piece> {
    vec![Response::Head { status, stream: false, unknown }.into(), Response::Body { text }.into()]
}

fn refusal(e: &ApiError, unknown: String) -> Vec<Piece> {
    whole(e.status, e.body(), unknown)
}
