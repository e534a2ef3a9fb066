//! The thread that speaks HTTP.

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use pagelm::api::{Accepted, Api, ApiError, Generate, Given, Job, Picture};
use pagelm::engine::{Processed, Processor};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::body::{Events, Reply, Stream};
use super::gate::{Gate, UNKNOWN_PARAMETERS};
use super::line::Line;
use super::worker::{AHEAD, Command};
use crate::{image, machine};

/// Bytes of the body of a request.
const MOST_BYTES: usize = 16 << 20;

/// For the head of a request, also the first one of a connection that is kept.
const HEAD: Duration = Duration::from_secs(60);
/// For its body.
const BODY: Duration = Duration::from_secs(60);
/// For requests that run when the server is told to stop.
const STOP: Duration = Duration::from_secs(10);

/// Threads that read requests: the templates and texts of large ones take a while.
const READERS: usize = 4;

pub struct Server {
    api: Api,
    /// Of the encoder, if there is one.
    processor: Option<Processor>,
    /// Images are decoded for one request at a time: a large one takes a gigabyte.
    decoding: Semaphore,
    gate: Gate,
    worker: Sender<Command>,
    /// How long a stream is silent.
    ping: Duration,
}

impl Server {
    pub fn new(api: Api, processor: Option<Processor>, gate: Gate, worker: Sender<Command>, ping: Duration) -> Self {
        Self { api, processor, decoding: Semaphore::new(1), gate, worker, ping }
    }
}

/// Serves until the process is told to stop.
pub fn serve(listener: TcpListener, server: Server) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(READERS).build()?;
    let ended = runtime.block_on(accept(listener, Arc::new(server)));
    runtime.shutdown_background();
    ended
}

async fn accept(listener: TcpListener, server: Arc<Server>) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = GracefulShutdown::new();
    let mut told = pin!(told_to_stop());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut told => break,
        };
        let Ok((stream, _)) = stream else {
            // Mostly too many open files: some are closed soon.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        // Events are small and must not wait for more.
        let _ = stream.set_nodelay(true);
        let server = server.clone();
        let service = service_fn(move |request| handle(server.clone(), request));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD);
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that is gone, or speaks no HTTP.
            if let Err(e) = connection.await {
                tracing::debug!("{e}");
            }
        });
    }
    drop(listener);
    tracing::info!("stopping; requests that run have {} seconds", STOP.as_secs());
    tokio::select! {
        () = connections.shutdown() => {}
        () = sleep(STOP) => {}
        () = told_to_stop() => {}
    }
    Ok(())
}

/// Waits for Ctrl-C, or what a service manager sends.
async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

async fn handle(server: Arc<Server>, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    let (method, path) = (request.method().clone(), decoded(request.uri().path()));
    let headers = request.headers().clone();
    let preflight = method == Method::OPTIONS;
    let line = Line::new(method, path.clone());
    let mut response = match server.admit(&request, &path, preflight) {
        Ok(()) if preflight => whole(line, StatusCode::NO_CONTENT, Bytes::new()),
        Ok(()) if path == "/health" => server.health(line).await,
        Ok(()) => server.clone().answer(request, &path, line).await,
        Err(e) => refusal(line, &path, &e),
    };
    server.gate.add_headers(&headers, preflight, response.headers_mut());
    Ok(response)
}

impl Server {
    /// What is refused before anything of the body is read.
    fn admit(&self, request: &Request<Incoming>, path: &str, preflight: bool) -> Result<(), ApiError> {
        let headers = request.headers();
        self.gate.check_origin(headers)?;
        if preflight || path == "/health" {
            return Ok(());
        }
        self.gate.check_key(headers)?;
        if request.body().size_hint().lower() > MOST_BYTES as u64 {
            return Err(too_large());
        }
        Ok(())
    }

    /// The images of a request, as the encoder reads them.
    async fn decode(&self, pictures: Vec<Picture>) -> Result<Vec<Processed>, ApiError> {
        // The API asks for none without an encoder.
        let Some(processor) = self.processor.clone().filter(|_| !pictures.is_empty()) else { return Ok(Vec::new()) };
        let _turn = self.decoding.acquire().await.map_err(|_| stopping())?;
        beside(move || pictures.iter().map(|picture| image::process(picture, &processor)).collect()).await
    }

    async fn health(&self, line: Line) -> Response<Reply> {
        let (reply, stats) = oneshot::channel();
        let sent = self.worker.send(Command::Stats { reply });
        match stats.await {
            Ok((stats, answers)) if sent.is_ok() => {
                let body = json!({ "status": "ok", "answers": answers, "steps": stats.done.steps, "tokens": stats.done.tokens });
                whole(line, StatusCode::OK, body.to_string().into())
            }
            _ => refusal(line, "/health", &stopping()),
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, path: &str, mut line: Line) -> Response<Reply> {
        let method = request.method().to_string();
        // Before a body is waited for.
        let body = match Api::method(path) {
            Some(right) if right == method => read(request.into_body()).await,
            _ => Ok(Bytes::new()),
        };
        let body = match body {
            Ok(body) => body,
            Err(e) => return refusal(line, path, &e),
        };
        let (server, owned) = (self.clone(), path.to_string());
        let reading = move || server.api.request(&method, &owned, &body, &given());
        let accepted = match beside(reading).await {
            Ok(accepted) => accepted,
            Err(e) => return refusal(line, path, &e),
        };
        let unknown = accepted.unknown();
        let Accepted { job, warnings } = accepted;
        line.unknown = warnings;
        let mut response = self.run(job, path, line).await;
        // It is ASCII.
        if let Ok(unknown) = HeaderValue::try_from(unknown)
            && !unknown.is_empty()
        {
            response.headers_mut().insert(UNKNOWN_PARAMETERS, unknown);
        }
        response
    }

    async fn run(&self, job: Job, path: &str, mut line: Line) -> Response<Reply> {
        match job {
            Job::Body(body) => whole(line, StatusCode::OK, body.into()),
            Job::Embed(embed) => {
                let (reply, vectors) = oneshot::channel();
                let sent = self.worker.send(Command::Embed { embed, reply });
                match vectors.await {
                    Ok((embed, Ok(vectors))) if sent.is_ok() => {
                        line.tokens = embed.tokens();
                        whole(line, StatusCode::OK, embed.body(&vectors).into())
                    }
                    Ok((_, Err(e))) => refusal(line, path, &e.into()),
                    _ => refusal(line, path, &stopping()),
                }
            }
            Job::Generate(generate) => {
                let Generate { prompts, pictures, stream, mut answer } = *generate;
                let pictures = match self.decode(pictures).await {
                    Ok(pictures) => pictures,
                    Err(e) => return refusal(line, path, &e),
                };
                let lanes = prompts.len();
                let (sender, news) = mpsc::channel(AHEAD * lanes);
                let mut events = Events::new(news, self.worker.clone(), lanes);
                let (started, starts) = oneshot::channel();
                let sent = self.worker.send(Command::Generate { prompts, pictures, events: sender, started });
                match starts.await {
                    Ok(Ok(())) if sent.is_ok() => {}
                    Ok(Err(e)) => return refusal(line, path, &e),
                    _ => return refusal(line, path, &stopping()),
                }
                if stream {
                    line.status = 200;
                    let mut response =
                        Response::new(Reply::Stream(Box::new(Stream::new(events, answer, line, self.ping))));
                    let headers = response.headers_mut();
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                    return response;
                }
                if let Err(e) = events.finish(&mut answer).await {
                    return refusal(line, path, &e);
                }
                line.tokens = answer.tokens();
                whole(line, StatusCode::OK, answer.whole().into())
            }
        }
    }
}

/// Runs what takes a while on a thread of its own.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, ApiError> + Send + 'static) -> Result<T, ApiError> {
    let failed = |e| ApiError::new(500, None, format!("the request was not read: {e}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

/// The body of a request, within its limits.
async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let late = || ApiError::new(408, None, format!("the body did not arrive within {} seconds", BODY.as_secs()));
    match timeout(BODY, Limited::new(body, MOST_BYTES).collect()).await.map_err(|_| late())? {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) if e.is::<LengthLimitError>() => Err(too_large()),
        Err(e) => Err(ApiError::new(400, None, format!("the body could not be read: {e}"))),
    }
}

fn too_large() -> ApiError {
    ApiError::new(413, None, format!("the body must have at most {} MiB", MOST_BYTES >> 20))
}

fn stopping() -> ApiError {
    ApiError::new(503, None, "the server is stopping")
}

fn whole(mut line: Line, status: StatusCode, body: Bytes) -> Response<Reply> {
    line.status = status.as_u16();
    line.whole = true;
    let mut response = Response::new(Reply::Whole(Some(body).filter(|body| !body.is_empty())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal(line: Line, path: &str, e: &ApiError) -> Response<Reply> {
    if e.status >= 500 {
        tracing::error!("{}", e.message);
    }
    let status = StatusCode::from_u16(e.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = whole(line, status, e.body().into());
    if let Some(method) = Api::method(path).filter(|_| status == StatusCode::METHOD_NOT_ALLOWED) {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(method));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn given() -> Given {
    // Different ones each time: the standard library seeds its tables from the system.
    let random = |n: u8| RandomState::new().hash_one(n);
    Given {
        now: super::now(),
        id: format!("{:016x}{:016x}", random(0), random(1)),
        seed: random(2),
        date: Some(machine::now()),
    }
}

/// A path in which `%2F` and the like are characters.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|hex| str::from_utf8(hex).ok()).filter(|_| *first == b'%');
        match digits.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
