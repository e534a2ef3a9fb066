//! Bodies of responses: whole ones, and streams of events.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use pagelm::api::{Answer, ApiError, Chunk};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, Sleep, sleep};

use super::line::Line;
use super::worker::{Command, News};

/// The events of a request. When it is dropped, its generations end.
pub struct Events {
    news: Receiver<News>,
    worker: Sender<Command>,
    /// How many answers there are.
    lanes: usize,
}

impl Events {
    pub fn new(news: Receiver<News>, worker: Sender<Command>, lanes: usize) -> Self {
        Self { news, worker, lanes }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<News>> {
        let news = ready!(self.news.poll_recv(cx));
        // The worker may have left these generations out, for want of room.
        if self.news.capacity() <= self.lanes {
            self.wake();
        }
        Poll::Ready(news)
    }

    /// Takes all events; then the answer is whole.
    pub async fn finish(&mut self, answer: &mut Answer) -> Result<(), ApiError> {
        while !answer.is_over() {
            match poll_fn(|cx| self.poll(cx)).await {
                Some((index, event)) => drop(answer.push(index, event?)),
                None => return Err(ended()),
            }
        }
        Ok(())
    }

    fn wake(&self) {
        // A worker that has ended has no generations.
        let _ = self.worker.send(Command::Wake);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.news.close();
        self.wake();
    }
}

/// The worker gave the request up.
fn ended() -> ApiError {
    ApiError::new(503, None, "the answer was given up before its end: it was not read, or the server is stopping")
}

/// A body.
pub enum Reply {
    Whole(Option<Bytes>),
    Stream(Box<Stream>),
}

/// An answer that is sent as it comes.
pub struct Stream {
    events: Events,
    answer: Answer,
    /// What can be sent.
    ready: String,
    over: bool,
    line: Line,
    /// When there has been nothing to send for so long that a comment is sent.
    silent: Pin<Box<Sleep>>,
    ping: Duration,
}

/// A comment: it keeps what is between from ending a silent connection.
const PING: &str = ": ping\n\n";

impl Stream {
    /// `ping`: how long nothing is sent before a comment is. In a runtime.
    pub fn new(events: Events, mut answer: Answer, line: Line, ping: Duration) -> Self {
        let ready = sse(&answer.start());
        Self { events, answer, ready, over: false, line, silent: Box::pin(sleep(ping)), ping }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if !self.ready.is_empty() {
                self.silent.as_mut().reset(Instant::now() + self.ping);
                return Poll::Ready(Some(std::mem::take(&mut self.ready).into()));
            }
            if self.over {
                self.line.whole = true;
                return Poll::Ready(None);
            }
            let Poll::Ready(news) = self.events.poll(cx) else {
                ready!(self.silent.as_mut().poll(cx));
                self.ready = PING.to_owned();
                continue;
            };
            match news.map_or_else(|| Err(ended()), |(index, event)| Ok((index, event?))) {
                Ok((index, event)) => self.ready = sse(&self.answer.push(index, event)),
                Err(e) => {
                    tracing::error!("{}", e.message);
                    self.ready = self.answer.fail(&e).to_sse();
                    self.over = true;
                }
            }
            self.over |= self.answer.is_over();
            self.line.tokens = self.answer.tokens();
        }
    }
}

fn sse(chunks: &[Chunk]) -> String {
    chunks.iter().map(Chunk::to_sse).collect()
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Stream(stream) => ready!(stream.poll(cx)),
        };
        Poll::Ready(data.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
