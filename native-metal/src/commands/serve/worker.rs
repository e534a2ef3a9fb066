//! The thread that owns the engine: requests come in as commands, events go out through a queue of each.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use pagelm::api::{ApiError, Embed, Prompt};
use pagelm::engine::{Batch, Encoder, Engine, Event, Image, Processed, Seeing, SpeculateParams, Stats};
use pagelm::text::Tokenizer;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use tokio::sync::{mpsc, oneshot};

/// Events that wait for a client, for each of its answers. When there is no room for more, they are not generated.
pub const AHEAD: usize = 64;

/// A client that takes nothing for so long is given up: its answers hold places that others wait for.
const STALL: Duration = Duration::from_secs(60);

/// More answers than that do not wait for their turn.
const MOST_WAITING: usize = 256;

/// Texts that are embedded before the worker looks whether the client is still there.
const TEXTS: usize = 8;

/// What an answer of a request, by its index, gets.
pub type News = (usize, Result<Event>);

pub enum Command {
    Generate {
        prompts: Vec<Prompt>,
        pictures: Vec<Processed>,
        events: mpsc::Sender<News>,
        started: oneshot::Sender<Result<(), ApiError>>,
    },
    Embed {
        embed: Embed,
        reply: oneshot::Sender<(Embed, Result<Vec<Vec<f32>>>)>,
    },
    Stats {
        reply: oneshot::Sender<(Stats, usize)>,
    },
    /// A client has taken events, or is gone.
    Wake,
}

/// A request whose images are not all encoded.
struct Opening {
    prompts: Vec<Prompt>,
    pictures: VecDeque<Processed>,
    /// Those that are.
    images: Vec<Image>,
    events: mpsc::Sender<News>,
    started: oneshot::Sender<Result<(), ApiError>>,
}

struct Request {
    /// Those of its answers that still run: the number in the batch and the index.
    lanes: Vec<(u64, usize)>,
    events: mpsc::Sender<News>,
    /// Since when there is no room for its events.
    full: Option<Instant>,
}

impl Request {
    /// Whether each answer may bring another event.
    fn has_room(&self) -> bool {
        self.events.capacity() >= self.lanes.len()
    }
}

pub struct Worker<'a> {
    engine: &'a mut Engine,
    encoder: Option<Encoder>,
    tokenizer: &'a Tokenizer,
    batch: Batch,
    openings: VecDeque<Opening>,
    requests: Vec<Request>,
    speculate: Option<SpeculateParams>,
    started: Instant,
}

impl<'a> Worker<'a> {
    pub fn new(
        engine: &'a mut Engine,
        encoder: Option<Encoder>,
        tokenizer: &'a Tokenizer,
        sequences: usize,
        speculate: Option<SpeculateParams>,
    ) -> Self {
        let (openings, requests, batch) = (VecDeque::new(), Vec::new(), Batch::new(sequences));
        Self { engine, encoder, tokenizer, batch, openings, requests, speculate, started: Instant::now() }
    }

    /// Works until nobody can send commands any more.
    pub fn run(&mut self, inbox: &Receiver<Command>) {
        let mut idle = true;
        loop {
            match if idle { self.wait(inbox) } else { inbox.try_recv() } {
                Ok(command) => {
                    self.take(command);
                    idle = false;
                }
                Err(TryRecvError::Empty) => idle = !self.step(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// The next command; none once a client may have to be given up.
    fn wait(&self, inbox: &Receiver<Command>) -> Result<Command, TryRecvError> {
        if self.requests.is_empty() {
            return inbox.recv().map_err(|_| TryRecvError::Disconnected);
        }
        inbox.recv_timeout(STALL).map_err(|e| match e {
            RecvTimeoutError::Timeout => TryRecvError::Empty,
            RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
        })
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Generate { prompts, pictures, events, started } => {
                let opening = Opening { prompts, pictures: pictures.into(), images: Vec::new(), events, started };
                match self.check(&opening) {
                    Ok(()) if opening.pictures.is_empty() => self.start(opening),
                    Ok(()) => self.openings.push_back(opening),
                    // A client that is gone hears nothing of it.
                    Err(e) => _ = opening.started.send(Err(e)),
                }
            }
            Command::Embed { embed, reply } => {
                let vectors = self.embed(&embed, || reply.is_closed());
                let _ = reply.send((embed, vectors));
            }
            Command::Stats { reply } => {
                let _ = reply.send((self.stats(), self.batch.len()));
            }
            Command::Wake => {}
        }
    }

    /// Refuses a request for which there is no room.
    fn check(&self, opening: &Opening) -> Result<(), ApiError> {
        let waiting = self.batch.len() + self.openings.iter().map(|o| o.prompts.len()).sum::<usize>();
        if waiting + opening.prompts.len() > MOST_WAITING {
            let message = format!("{waiting} answers wait already; try again later");
            return Err(ApiError::new(503, Some("overloaded"), message));
        }
        Ok(Prompt::check_room(&opening.prompts, self.engine, opening.pictures.iter().map(Processed::rows))?)
    }

    /// Encodes a part of an image of the first request that waits for some, so that other answers go on in between. Whether there
    /// was one.
    fn open(&mut self) -> bool {
        while let Some(mut opening) = self.openings.pop_front() {
            // A client may be gone.
            let Some(picture) = opening.pictures.front().filter(|_| !opening.started.is_closed()) else { continue };
            let missing = || Error::new(ErrorKind::NoImages, "there is no encoder");
            let encoder = self.encoder.as_mut().ok_or_else(missing);
            match encoder.and_then(|encoder| block_on(encoder.see_part(self.engine, picture))) {
                Ok(Seeing::Part { .. }) => self.openings.push_front(opening),
                Ok(Seeing::Whole(image)) => {
                    opening.images.push(image);
                    opening.pictures.pop_front();
                    if opening.pictures.is_empty() {
                        self.start(opening);
                    } else {
                        self.openings.push_front(opening);
                    }
                }
                Err(e) => _ = opening.started.send(Err(e.into())),
            }
            return true;
        }
        false
    }

    /// Starts a request that has all its images.
    fn start(&mut self, Opening { mut prompts, images, events, started, .. }: Opening) {
        let placed = if images.is_empty() { Ok(()) } else { Prompt::place(&mut prompts, self.tokenizer, &images) };
        let added = placed.map_err(ApiError::from).and_then(|()| self.add(prompts, events));
        let _ = started.send(added);
    }

    /// Adds all answers of a request, or none.
    fn add(&mut self, prompts: Vec<Prompt>, events: mpsc::Sender<News>) -> Result<(), ApiError> {
        let mut lanes = Vec::with_capacity(prompts.len());
        for (index, Prompt { ids, mut params }) in prompts.into_iter().enumerate() {
            params.speculate = self.speculate;
            let now_ms = self.started.elapsed().as_secs_f64() * 1e3;
            match self.batch.add(self.engine, self.tokenizer, &ids, params, now_ms) {
                Ok(id) => lanes.push((id, index)),
                Err(e) => {
                    lanes.iter().for_each(|(id, _)| self.batch.stop(self.engine, *id));
                    return Err(e.into());
                }
            }
        }
        self.requests.push(Request { lanes, events, full: None });
        Ok(())
    }

    fn embed(&mut self, embed: &Embed, gone: impl Fn() -> bool) -> Result<Vec<Vec<f32>>> {
        let mut vectors = Vec::with_capacity(embed.texts.len());
        for (i, texts) in embed.texts.chunks(TEXTS).enumerate() {
            if gone() {
                break;
            }
            let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
            let place = |e: Error| if i > 0 { e.at(format!("from text {}", i * TEXTS)) } else { e };
            vectors.extend(block_on(self.engine.embed(&texts, &embed.params)).map_err(place)?);
        }
        Ok(vectors)
    }

    /// Runs one step for those whose clients take what it brings. Whether there was one.
    fn step(&mut self) -> bool {
        let opened = self.open();
        self.give_up();
        let full: Vec<u64> =
            self.requests.iter().filter(|r| !r.has_room()).flat_map(|r| r.lanes.iter().map(|(id, _)| *id)).collect();
        self.batch.pause(|id| full.contains(&id));
        let started = self.started;
        let now = || started.elapsed().as_secs_f64() * 1e3;
        match block_on(self.batch.next(self.engine, self.tokenizer, &now)) {
            Ok(events) => {
                let ran = opened || !events.is_empty();
                events.into_iter().for_each(|(id, event)| self.tell(id, event));
                ran
            }
            // A step that fails is that of all.
            Err(e) => {
                for id in self.batch.clear(self.engine) {
                    self.tell(id, Err(e.clone()));
                }
                false
            }
        }
    }

    /// Stops the answers of clients that are gone, or have taken nothing for long.
    fn give_up(&mut self) {
        let Self { requests, batch, engine, .. } = self;
        requests.retain_mut(|request| {
            request.full = if request.has_room() { None } else { request.full.or_else(|| Some(Instant::now())) };
            let stalled = request.full.is_some_and(|since| since.elapsed() >= STALL);
            let keep = !stalled && !request.events.is_closed();
            if !keep {
                request.lanes.iter().for_each(|(id, _)| batch.stop(engine, *id));
            }
            keep
        });
    }

    fn tell(&mut self, id: u64, event: Result<Event>) {
        let Some(at) = self.requests.iter().position(|r| r.lanes.iter().any(|(lane, _)| *lane == id)) else { return };
        let request = &mut self.requests[at];
        let lane = request.lanes.iter().position(|(lane, _)| *lane == id).unwrap_or_default();
        let index = request.lanes[lane].1;
        if !matches!(event, Ok(Event::Prefill { .. } | Event::Token { .. })) {
            request.lanes.remove(lane);
        }
        if !matches!(event, Ok(Event::Prefill { .. })) {
            // There is room, as it was looked for; a client that is gone is met in the next step.
            let _ = request.events.try_send((index, event));
        }
        if request.lanes.is_empty() {
            self.requests.remove(at);
        }
    }
}
