//! `pagelm serve`: OpenAI's API over HTTP. One thread owns the engine and runs all requests in the same steps; another one
//! speaks HTTP.

mod body;
mod gate;
mod http;
mod line;
mod worker;

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pagelm::api::{Api, Names};
use pagelm::engine::Options;
use pagelm::text::Tokenizer;
use pagelm::{Error, ErrorKind, Result};
use serde_json::json;

use crate::Report;
use crate::image::EncoderArgs;
use crate::model::{self, ModelArgs, Purpose};
use crate::spec::{Spec, SpecArgs};
use gate::Gate;
use http::Server;
use worker::Worker;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The address to listen at. With another one than 127.0.0.1, other machines can connect.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// The port to listen at; 0 takes one that is free. The address is logged.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// What clients must send, as `Authorization: Bearer KEY`. Default: PAGELM_API_KEY of the environment, else nothing.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// An origin whose pages may send requests, such as https://example.org; `*` is any. May be given more than once.
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// The most answers that are generated at once; others wait.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=8))]
    sequences: u8,
    /// Tokens of the cache, which all requests share. Default: those of one context.
    #[arg(long, value_name = "N")]
    cache_tokens: Option<usize>,
    /// The name of the model for requests. Default: that of the file.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Seconds without anything to send after which a stream gets a comment, so that nobody takes it for dead.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    ping: u64,
    /// Make embeddings instead of text.
    #[arg(long)]
    embeddings: bool,
    #[command(flatten)]
    images: EncoderArgs,
    #[command(flatten)]
    spec: SpecArgs,
}

pub fn run(args: &Args) -> Result<Report> {
    if let Some(Spec::Draft(_)) = args.spec.spec {
        let detail = "`--spec draft:FILE` is not supported with `serve`; take lookup or mtp";
        return Err(Error::new(ErrorKind::InvalidArgument, detail));
    }
    let gate = Gate::new(args.api_key.clone().or_else(|| std::env::var("PAGELM_API_KEY").ok()), args.cors.clone())?;
    // Before the model, which takes its time: a port may be taken.
    let place = |e: std::io::Error| Error::new(ErrorKind::Io, e.to_string()).at(format!("{}:{}", args.host, args.port));
    let listener = TcpListener::bind((args.host.as_str(), args.port)).map_err(place)?;
    let address = listener.local_addr().map_err(place)?;
    if !address.ip().is_loopback() && gate.is_open() {
        tracing::warn!("{address} can be reached from other machines, and there is no `--api-key`");
    }
    let sequences = usize::from(args.sequences);
    let options = Options {
        sequences,
        cache: args.cache_tokens,
        embeddings: args.embeddings.then_some(true),
        images: args.images.mmproj.is_some(),
        ..args.spec.options(args.model.device.options())
    };
    let mut opened = model::open(&args.model.model, &args.model.device, options, Purpose::Run)?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&opened.gguf.meta)?);
    let encoder = args.images.open(opened.beside, args.model.device.allow_unknown)?;
    let processor = encoder.as_ref().map(|encoder| encoder.processor().clone());
    let api = Api::new(&opened.gguf.meta, tokenizer.clone(), names(args), now())?;
    let api = if encoder.is_some() { api.with_images() } else { api };
    let (commands, inbox) = mpsc::channel();
    let server = Server::new(api, processor, gate, commands, Duration::from_secs(args.ping));
    let http = std::thread::spawn(move || http::serve(listener, server));
    tracing::info!("listening at http://{address}");
    let mut worker = Worker::new(opened.session.engine(), encoder, &tokenizer, sequences, args.spec.params());
    worker.run(&inbox);
    let ended = http.join().map_err(|_| Error::new(ErrorKind::Io, "the thread of HTTP has panicked"))?;
    ended.map_err(place)?;
    let done = worker.stats().done;
    Ok(Report { json: json!({ "address": address.to_string(), "steps": done.steps, "tokens": done.tokens }), ok: true })
}

/// The name of the file without its ending, and what was given.
fn names(args: &Args) -> Names {
    let given = args.model.model.to_string_lossy().into_owned();
    let file = Path::new(&given).file_name().map_or_else(|| given.clone(), |name| name.to_string_lossy().into_owned());
    let stem = file.strip_suffix(".gguf").unwrap_or(&file).to_string();
    Names::These(args.name.iter().cloned().chain([stem, given]).collect())
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
