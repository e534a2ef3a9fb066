//! `pagelm embed`: texts as vectors, whose dot products say how alike the texts are.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use pagelm::engine::{EmbedParams, Options, Pooling};
use pagelm::text::{EncodeOptions, Tokenizer};
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::json;

use crate::Report;
use crate::model::{self, ModelArgs, Purpose};

/// Values of a vector that are shown.
const SHOWN: usize = 6;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    input: Input,
    /// How the rows of a text's tokens become one vector. Default: as the file says, else the last token's row.
    #[arg(long, value_enum)]
    pooling: Option<PoolingName>,
    /// Leave vectors at the length that the model gives them.
    #[arg(long)]
    no_normalize: bool,
    /// Keep the first N values of a vector: for models that were trained for it.
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// A text; may be given more than once. Names of special tokens in it are text.
    #[arg(long, value_name = "TEXT")]
    text: Vec<String>,
    /// A file with a text in each line.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PoolingName {
    None,
    Mean,
    Cls,
    Last,
}

impl From<PoolingName> for Pooling {
    fn from(name: PoolingName) -> Self {
        match name {
            PoolingName::None => Self::None,
            PoolingName::Mean => Self::Mean,
            PoolingName::Cls => Self::Cls,
            PoolingName::Last => Self::Last,
        }
    }
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let texts = args.input.texts()?;
    let options = Options { embeddings: Some(true), ..args.model.device.options() };
    let mut opened = model::open(&args.model.model, &args.model.device, options, Purpose::Run)?;
    let tokenizer = Tokenizer::from_gguf(&opened.gguf.meta)?;
    let encode = |text: &String| tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false });
    let ids = texts.iter().map(encode).collect::<Result<Vec<_>>>()?;
    let ids: Vec<_> = ids.iter().map(Vec::as_slice).collect();
    let params = EmbedParams {
        pooling: args.pooling.map(Into::into),
        normalize: !args.no_normalize,
        dimensions: args.dimensions,
    };
    let engine = opened.session.engine();
    if engine.pooling() == Some(Pooling::Rank) {
        pagelm::bail!(
            InvalidArgument,
            "the model ranks documents and makes no embeddings; `serve` ranks them at /v1/rerank"
        );
    }
    let pooling = params.pooling.or(engine.pooling());
    let start = Instant::now();
    let vectors = block_on(engine.embed(&ids, &params))?;
    let seconds = start.elapsed().as_secs_f64();
    let tokens: usize = ids.iter().map(|ids| ids.len()).sum();
    if !json {
        for (text, vector) in texts.iter().zip(&vectors) {
            let first: Vec<_> = vector.iter().take(SHOWN).map(|x| format!("{x:.4}")).collect();
            println!("{} ... ({} values): {text}", first.join(" "), vector.len());
        }
        // Vectors of one length each.
        if pooling != Some(Pooling::None) && texts.len() > 1 && !args.no_normalize {
            println!("cosines");
            for a in &vectors {
                let row: Vec<_> = vectors.iter().map(|b| format!("{:7.4}", dot(a, b))).collect();
                println!("{}", row.join(" "));
            }
        }
        tracing::info!("{} texts, {tokens} tokens at {:.1}/s", texts.len(), tokens as f64 / seconds);
    }
    let of = |(index, (vector, ids)): (usize, (&Vec<f32>, &&[u32]))| json!({ "index": index, "tokens": ids.len(), "embedding": vector });
    let json = json!({
        "embeddings": vectors.iter().zip(&ids).enumerate().map(of).collect::<Vec<_>>(),
        "pooling": pooling,
        "tokens": tokens,
        "tokens_per_s": tokens as f64 / seconds,
        "backend": opened.session.backend().name(),
        "device": opened.device,
    });
    Ok(Report { json, ok: true })
}

impl Input {
    fn texts(&self) -> Result<Vec<String>> {
        let Some(path) = &self.file else { return Ok(self.text.clone()) };
        let place = |e: std::io::Error| Error::new(ErrorKind::Io, e.to_string()).at(path.display());
        let lines = std::fs::read_to_string(path).map_err(place)?;
        let texts: Vec<_> = lines.lines().filter(|line| !line.is_empty()).map(str::to_string).collect();
        if texts.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "the file has no text").at(path.display()));
        }
        Ok(texts)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
