//! `pagelm bench`: prefill and decode speed, and what a token costs in calls and bytes.

mod image;
mod profile;
mod rows;

use std::time::Instant;

use pagelm::backend::{BLOCK, Counters};
use pagelm::engine::{Done, Draft, GenerateParams, Sampler, SamplerParams, Session, SpeculateParams, Speculated};
use pagelm::grammar::GrammarSource;
use pagelm::text::Tokenizer;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::{Value, json};

use crate::Report;
use crate::grammar::GrammarArgs;
use crate::image::EncoderArgs;
use crate::machine;
use crate::model::{self, ModelArgs, Purpose};
use crate::spec::SpecArgs;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Lengths of prompts.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "128,512")]
    pp: Vec<usize>,
    /// Numbers of tokens to decode.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "64")]
    tg: Vec<usize>,
    /// Tokens in the cache before a test.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Measured runs of each test, after a warm-up run.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    reps: u16,
    /// Sequences that decode at once, each a row of the same steps.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1")]
    batch_rows: Vec<usize>,
    #[command(flatten)]
    spec: SpecArgs,
    /// Decodes also tokens of such an answer, which must not end before: `tg64+grammar` beside `tg64`.
    #[command(flatten)]
    grammar: GrammarArgs,
    /// Measures instead how long each kernel of one decoded token takes on the GPU (after the first --depth), and how
    /// fast it reads weights, beside a kernel that only reads.
    #[arg(long)]
    profile: bool,
    /// With --mmproj, measures instead how long an image takes, and the parts in which it is encoded.
    #[command(flatten)]
    encoder: EncoderArgs,
}

/// One thing to measure.
#[derive(Clone, Copy)]
struct Test {
    decode: bool,
    n: usize,
    depth: usize,
    /// Sequences.
    rows: usize,
    /// Whether a grammar holds the tokens.
    held: bool,
}

/// A generation with all that it may have, where decoding alone would not do.
struct Generated {
    /// Files that `synth` wrote have none.
    tokenizer: Result<Tokenizer>,
    grammar: Option<GrammarSource>,
    proposed: Option<Proposed>,
}

/// What proposes tokens, and what came of it in the last run.
struct Proposed {
    draft: Option<Draft>,
    params: SpeculateParams,
    done: Speculated,
}

/// What was done while tokens were decoded.
#[derive(Clone, Copy)]
struct Decoded {
    counters: [Counters; 2],
    done: [Done; 2],
    tokens: usize,
}

impl Decoded {
    /// Bytes of weights that the steps of the model read for each token that came out: less where a step makes tokens of
    /// several sequences, or several of one. What a draft model reads does not count.
    fn weight_bytes_per_token(&self) -> f64 {
        (self.done[1].weight_bytes - self.done[0].weight_bytes) as f64 / self.tokens as f64
    }

    fn steps(&self) -> u64 {
        self.done[1].steps - self.done[0].steps
    }
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    if args.profile {
        return profile::run(&args.model, args.depth.first().copied().unwrap_or(0), usize::from(args.reps), json);
    }
    if args.encoder.mmproj.is_some() {
        return image::run(&args.encoder, &args.model.device, usize::from(args.reps), json);
    }
    let grammar = args.grammar.source()?;
    let tests = args.tests(grammar.is_some());
    let Some(need) = tests.iter().map(|t| t.n + t.depth).max() else {
        return Err(Error::new(ErrorKind::InvalidArgument, "nothing to measure; give --pp or --tg above 0"));
    };
    let mut options = args.model.device.options();
    let n_ctx = options.n_ctx.unwrap_or(need);
    options.n_ctx = Some(n_ctx);
    options.sequences = args.batch_rows.iter().copied().max().unwrap_or(1);
    options.cache = Some(options.sequences * n_ctx.next_multiple_of(BLOCK));
    let options = args.spec.options(options);
    let mut opened = model::open(&args.model.model, &args.model.device, options, Purpose::Run)?;
    let tokenizer = Tokenizer::from_gguf(&opened.gguf.meta);
    let proposed = match args.spec.params() {
        Some(params) => {
            let tokenizer = tokenizer.as_ref().map_err(Error::clone)?;
            let draft = args.spec.draft(&mut opened.session, tokenizer, &args.model.device)?;
            Some(Proposed { draft, params, done: Speculated::default() })
        }
        None => None,
    };
    let mut generated = Generated { tokenizer, grammar, proposed };
    let mut results = Vec::new();
    let mut decoded = None;
    for test in tests {
        let (mut speeds, counted) = measure(&mut opened.session, test, usize::from(args.reps), &mut generated)?;
        decoded = counted.or(decoded);
        let weight_bytes = counted.map(|d| d.weight_bytes_per_token());
        speeds.sort_by(f64::total_cmp);
        let (min, median, max) = (speeds[0], speeds[speeds.len() / 2], speeds[speeds.len() - 1]);
        if !json {
            let read = weight_bytes.map(|n| format!(", {:.1} MB of weights a token", n / 1e6)).unwrap_or_default();
            println!("{:<16} {median:>10.2} tokens/s  ({min:.2} to {max:.2}){read}", test.name());
        }
        results.push(json!({
            "test": test.name(),
            "tokens_per_s": { "min": min, "median": median, "max": max },
            "weight_bytes_per_token": weight_bytes,
            "steps": counted.map(|d| d.steps()),
        }));
    }
    let backend = opened.session.backend().name();
    let decode = results.iter().find(|r| r["test"].as_str().is_some_and(|t| t.starts_with("tg")));
    let read = |r: &Value| Some(r["tokens_per_s"]["median"].as_f64()? * r["weight_bytes_per_token"].as_f64()?);
    let read = decode.filter(|_| backend == "cpu").and_then(read);
    let weight_read = read.map(|speed| weight_read(speed, args.model.device.threads())).transpose()?;
    let memory = opened.session.backend().memory();
    let counters = per_token(decoded, opened.kv_bytes_per_token);
    let memory = json!({
        "weights": memory.weights, "kv": memory.cache(), "scratch": memory.scratch, "peak_rss": machine::peak_rss(),
    });
    if !json {
        println!("counters {counters}\nmemory {memory}");
        weight_read.iter().for_each(|read| println!("weight_read {read}"));
    }
    let speculated = generated.proposed.map(|p| p.done);
    if let (false, Some(Speculated { drafted, accepted, steps })) = (json, speculated) {
        println!("speculated: {accepted} of {drafted} proposed tokens were right, in {steps} steps");
    }
    let json = json!({
        "speculated": speculated,
        "backend": backend,
        "model": args.model.model.display().to_string(),
        "tests": results,
        "counters": counters,
        "memory": memory,
        "weight_read": weight_read,
        "load_ms": opened.load_ms,
        "machine": machine::describe(&opened.device),
        "versions": machine::versions(),
    });
    Ok(Report { json, ok: true })
}

impl Args {
    /// All tests of a depth one after another, because they share its past.
    fn tests(&self, grammar: bool) -> Vec<Test> {
        let mut tests = Vec::new();
        for &depth in &self.depth {
            tests.extend(self.pp.iter().map(|&n| Test { decode: false, n, depth, rows: 1, held: false }));
            let decoded = self.tg.iter().flat_map(|n| self.batch_rows.iter().map(move |rows| (*n, *rows)));
            tests.extend(decoded.map(|(n, rows)| Test { decode: true, n, depth, rows, held: false }));
            let held = self.tg.iter().filter(|_| grammar);
            tests.extend(held.map(|&n| Test { decode: true, n, depth, rows: 1, held: true }));
        }
        tests.retain(|t| t.n > 0);
        tests
    }
}

impl Test {
    fn name(&self) -> String {
        let kind = if self.decode { "tg" } else { "pp" };
        let depth = if self.depth > 0 { format!("@{}", self.depth) } else { String::new() };
        let rows = if self.rows > 1 { format!("x{}", self.rows) } else { String::new() };
        let held = if self.held { "+grammar" } else { "" };
        format!("{kind}{}{rows}{held}{depth}", self.n)
    }
}

/// Tokens per second of each run.
fn measure(
    session: &mut Session,
    test: Test,
    reps: usize,
    generated: &mut Generated,
) -> Result<(Vec<f64>, Option<Decoded>)> {
    let ids = tokens(session.n_vocab(), test.depth + test.n);
    let (past, new) = ids.split_at(test.depth);
    let mut speeds = Vec::with_capacity(reps);
    let mut decoded = None;
    for rep in 0..=reps {
        let known = if session.tokens().starts_with(past) { past.len() } else { 0 };
        session.rollback(known)?;
        if known < past.len() {
            block_on(session.prefill(past))?;
            session.checkpoint()?;
        }
        let before = (session.backend().counters(), session.engine().stats().done);
        let start = Instant::now();
        if !test.decode {
            block_on(session.prefill(new))?;
        } else if test.rows > 1 {
            rows::decode_rows(session, test.n, test.rows)?;
        } else if test.held || generated.proposed.is_some() {
            generated.decode(session, &ids[..=test.depth], test)?;
        } else {
            decode(session, &ids[..=test.depth], test.n)?;
        }
        let (seconds, tokens) = (start.elapsed().as_secs_f64(), test.n * test.rows);
        if rep > 0 {
            speeds.push(tokens as f64 / seconds);
        }
        let after = (session.backend().counters(), session.engine().stats().done);
        let (counters, done) = ([before.0, after.0], [before.1, after.1]);
        decoded = test.decode.then_some(Decoded { counters, done, tokens });
    }
    Ok((speeds, decoded))
}

impl Generated {
    /// Decodes `test.n` tokens after the `known` ones.
    fn decode(&mut self, session: &mut Session, known: &[u32], test: Test) -> Result<()> {
        let grammar = self.grammar.clone().filter(|_| test.held);
        let speculate = self.proposed.as_ref().map(|p| p.params);
        let params = GenerateParams { speculate, ignore_eos: grammar.is_none(), grammar, ..rows::greedy(test.n) };
        let draft = self.proposed.as_mut().and_then(|p| p.draft.take());
        let tokenizer = self.tokenizer.as_ref().map_err(Error::clone)?;
        let (done, draft) = rows::generate(session, tokenizer, known, params, draft)?;
        if let Some(p) = &mut self.proposed {
            (p.done, p.draft) = (done, draft);
        }
        Ok(())
    }
}

/// Decodes `n` tokens after the `known` ones as a generation does.
fn decode(session: &mut Session, known: &[u32], n: usize) -> Result<()> {
    let mut sampler = Sampler::new(SamplerParams::greedy())?;
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64() * 1e3;
    let mut all = Vec::with_capacity(known.len() + n);
    all.extend_from_slice(known);
    for taken in 0..n {
        let id = block_on(session.next_token(&all, &mut sampler, n - taken, &now))?;
        all.push(id);
    }
    Ok(())
}

/// Tokens without meaning, the same in every run.
fn tokens(n_vocab: usize, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % n_vocab) as u32).collect()
}

/// How fast decoding reads weights, and which part that is of what this machine's memory gives so many threads.
fn weight_read(bytes_per_s: f64, threads: usize) -> Result<Value> {
    let streaming = machine::read_bandwidth(threads).map_err(|e| Error::new(ErrorKind::OutOfMemory, e.to_string()))?;
    Ok(json!({ "bytes_per_s": bytes_per_s, "of_streaming_read": bytes_per_s / streaming }))
}

fn per_token(decoded: Option<Decoded>, kv_bytes: u64) -> Value {
    let of =
        |d: Decoded, get: fn(&Counters) -> u64| (get(&d.counters[1]) - get(&d.counters[0])) as f64 / d.tokens as f64;
    let per = |get| decoded.map(|d| of(d, get));
    json!({
        "dispatches_per_token": per(|c| c.dispatches),
        "passes_per_token": per(|c| c.passes),
        "submits_per_token": per(|c| c.submits),
        "weight_bytes_per_token": decoded.map(|d| d.weight_bytes_per_token()),
        "kv_bytes_per_token": kv_bytes,
    })
}
