//! What runs for a page, by number: requests, and generations beside them.

use std::collections::{BTreeMap, VecDeque};

use super::answer::Answer;
use super::embeddings::Embed;
use super::given::Given;
use super::job::{Generate, Job, Prompt};
use super::journal::{self, Entry};
use super::model::Api;
use super::news::{Asked, News, Piece, Response, Seen, events, refusal, unless_broken, whole};
use super::pictures::Picture;
use crate::engine::{Batch, Encoder, Engine, Event, GenerateParams, Image, Processed, Seeing, Sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Pixels;
use crate::text::Tokenizer;

/// As many texts as a step has room for.
const TEXTS_AT_ONCE: usize = 16;

enum Run {
    /// A generation, as this lane of the batch.
    Generation(u64),
    /// An answer of several; none of them is left once it is over.
    Answer { lanes: Vec<u64>, answer: Answer, stream: bool, unknown: String },
    /// Texts to embed, and the vectors of the first of them.
    Embed { embed: Embed, vectors: Vec<Vec<f32>>, unknown: String },
    /// A request whose images are not all encoded: the first are, and some more are decoded.
    See {
        generate: Box<Generate>,
        images: Vec<Image>,
        decoded: VecDeque<Result<Processed>>,
        unknown: String,
        replay: Vec<Entry>,
    },
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
    /// What somebody else keeps of the engine's: prompts go on from what these have in the cache.
    pub sequences: &'a [&'a Sequence],
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

    /// Adds a generation. Returns its number, unless it is over: `replay` is the journal of the same generation on another
    /// engine, as in [`Runs::request`].
    pub fn generate(
        &mut self,
        host: Host<'_>,
        ids: &[u32],
        params: GenerateParams,
        replay: &[u32],
    ) -> Result<Option<u32>> {
        let replay = journal::read(replay)?;
        if replay.contains(&Entry::Over) {
            return Ok(None);
        }
        let Host { engine, tokenizer, now, sequences, .. } = host;
        let lane = self.batch.add_beside(sequences.iter().copied(), engine, tokenizer, ids, params, now())?;
        match self.replay(engine, tokenizer, &[lane], replay, |_, _| ()) {
            Ok(()) => Ok(Some(self.insert(Run::Generation(lane)))),
            Err(e) => {
                self.batch.stop(engine, lane);
                Err(e)
            }
        }
    }

    /// Adds a request: a method, a path and a body, as in [`Api::request`]. Returns its number, unless it is answered, and what
    /// there is of the response.
    ///
    /// `replay` is empty, or the journal of the same request, with the same `given`, on an engine that is gone. Then what that
    /// journal came with is not returned again, and all that follows is as if that engine had gone on.
    ///
    /// The error is one of the engine, which is of no use any more.
    pub fn request(
        &mut self,
        host: Host<'_>,
        api: &Api,
        request: (&str, &str, &[u8]),
        given: &Given,
        replay: &[u32],
    ) -> Result<Asked> {
        let (method, path, body) = request;
        let replay = match journal::read(replay) {
            Ok(replay) if replay.contains(&Entry::Over) => return Ok(Asked::with(Vec::new())),
            Ok(replay) => replay,
            Err(e) => return Ok(Asked::with(refusal(&e.into(), String::new()))),
        };
        let accepted = match api.request(method, path, body, given) {
            Ok(accepted) => accepted,
            Err(e) => return Ok(Asked::with(refusal(&e, String::new()))),
        };
        let unknown = accepted.unknown();
        let run = match accepted.job {
            Job::Body(body) => return Ok(Asked::with(whole(200, body, unknown))),
            Job::Embed(embed) => Run::Embed { embed, vectors: Vec::new(), unknown },
            Job::Generate(generate) if !generate.pictures.is_empty() => {
                let (images, decoded) = Default::default();
                Run::See { generate, images, decoded, unknown, replay }
            }
            Job::Generate(generate) => {
                let engine = host.engine;
                let lent = Host { engine: &mut *engine, ..host };
                match self.start(lent, *generate, unknown, replay) {
                    Ok((run, pieces, journal)) => return Ok(Asked { run: Some(self.insert(run)), pieces, journal }),
                    Err(e) => return unless_broken(engine, Asked::with(refusal(&e.into(), String::new()))),
                }
            }
        };
        Ok(Asked { run: Some(self.insert(run)), pieces: Vec::new(), journal: Vec::new() })
    }

    /// Adds all generations of a request, or none.
    fn start(
        &mut self,
        host: Host<'_>,
        generate: Generate,
        unknown: String,
        replay: Vec<Entry>,
    ) -> Result<(Run, Vec<Piece>, Vec<u32>)> {
        let Generate { prompts, stream, mut answer, .. } = generate;
        let Host { engine, tokenizer, now, sequences, .. } = host;
        let mut lanes = Vec::with_capacity(prompts.len());
        let add = || {
            for prompt in prompts {
                let Prompt { ids, params } = prompt;
                lanes.push(self.batch.add_beside(sequences.iter().copied(), engine, tokenizer, &ids, params, now())?);
            }
            Ok(())
        };
        let added = add();
        let (mut pieces, mut journal) = (Vec::new(), Vec::new());
        if stream {
            pieces.push(Response::Head { status: 200, stream, unknown: unknown.clone() }.into());
            pieces.extend(events(answer.start()));
        }
        match replay.is_empty() {
            true => Entry::Started.write(&mut journal),
            false => pieces.clear(),
        }
        let take = |index, event| _ = answer.push(index, event);
        match added.and_then(|()| self.replay(engine, tokenizer, &lanes, replay, take)) {
            Ok(()) => Ok((Run::Answer { lanes, answer, stream, unknown }, pieces, journal)),
            Err(e) => {
                lanes.iter().for_each(|lane| self.batch.stop(engine, *lane));
                Err(e)
            }
        }
    }

    /// Makes generations repeat what is in a journal. `take` gets the events.
    fn replay(
        &mut self,
        engine: &mut Engine,
        tokenizer: &Tokenizer,
        lanes: &[u64],
        replay: Vec<Entry>,
        mut take: impl FnMut(usize, Event),
    ) -> Result<()> {
        for entry in replay {
            let Entry::Mark(index, mark) = entry else { continue };
            let Some(lane) = lanes.get(index) else {
                crate::bail!(
                    InvalidArgument,
                    "what is to be said again has an answer {index}, the request has {}",
                    lanes.len()
                );
            };
            if let Some(event) = self.batch.replay(engine, tokenizer, *lane, mark)? {
                take(index, event);
            }
        }
        Ok(())
    }

    /// One step of these runs: what it brought to which of them. Nothing if none can run.
    ///
    /// The error is one of the engine, which is of no use any more: runs go on from their journals on another.
    pub async fn next(&mut self, host: Host<'_>, wanted: &[u32]) -> Result<Vec<News>> {
        let engine = host.engine;
        let lent = Host { engine: &mut *engine, ..host };
        let news = self.step(lent, wanted).await;
        unless_broken(engine, news)
    }

    async fn step(&mut self, mut host: Host<'_>, wanted: &[u32]) -> Vec<News> {
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
        let (mut pieces, mut journal, mut error, mut done) = (Vec::new(), Vec::new(), None, event.is_err());
        let index = run.lanes().iter().position(|l| *l == lane)?;
        if let Ok(event) = &event {
            journal::note(&mut journal, index, event, self.batch.note_cached(lane));
        }
        match (run, event) {
            (Run::Answer { answer, stream, .. }, Ok(event)) => {
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
        let news = News::new(id, pieces, done && error.is_none());
        journal.extend(&news.journal);
        Some(News { journal, done, error, ..news })
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
        Some(News::new(id, pieces, done))
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
        match encoded {
            Ok(Seeing::Part { done, total }) => {
                let (done, total) = (images.len() as u64 * total + done, whole as u64 * total);
                let seen = Piece::Seen(Seen { phase: "image", done, total });
                return Some(News::new(id, vec![seen], false));
            }
            Ok(Seeing::Whole(ref image)) => images.push(image.clone()),
            Err(_) => {}
        }
        decoded.pop_front();
        if encoded.is_ok() && images.len() < whole {
            return Some(News::new(id, Vec::new(), false));
        }
        let Some(Run::See { mut generate, images, unknown, replay, .. }) = self.all.remove(&id) else { return None };
        let started = encoded.and_then(|_| {
            Prompt::place(&mut generate.prompts, host.tokenizer, &images)?;
            let Host { engine, tokenizer, now, sequences, .. } = host;
            let host = Host { engine, encoder: None, tokenizer, now: *now, sequences };
            Ok(self.start(host, *generate, unknown, replay)?)
        });
        Some(match started {
            Ok((run, pieces, journal)) => {
                self.all.insert(id, run);
                News { journal, ..News::new(id, pieces, false) }
            }
            Err(e) => News::new(id, refusal(&e, String::new()), true),
        })
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
