//! `pagelm ppl`: the perplexity on the token chunks of a reference file, and how far it is from the reference's.

use std::path::PathBuf;
use std::time::Instant;

use pagelm::engine::{Options, Session};
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use serde::Deserialize;
use serde_json::json;

use crate::Report;
use crate::mmap::read_json;
use crate::model::{self, ModelArgs, Purpose};

/// Rows of logits that one step makes.
const ROWS: usize = 32;

#[derive(clap::Args)]
pub struct Args {
    /// A file with `chunks` of `ids` and their `nll`.
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Only the first N chunks.
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    chunks: usize,
    /// Only the first N tokens of each chunk.
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    tokens: usize,
    /// Also runs the model with activations in f32 on the CPU, and says how far the distributions of tokens are from those.
    #[arg(long)]
    kl: bool,
    /// Largest allowed difference from the reference's perplexity, as a fraction of it.
    #[arg(long, value_name = "F", default_value_t = 0.005)]
    tol: f64,
}

#[derive(Deserialize)]
struct Reference {
    chunks: Vec<Chunk>,
}

#[derive(Deserialize)]
struct Chunk {
    ids: Vec<u32>,
    /// `-ln p(ids[i + 1] | ids[..=i])`.
    nll: Vec<f64>,
}

/// Sums over tokens.
#[derive(Default)]
struct Sums {
    n: usize,
    ours: f64,
    reference: f64,
    max_diff: f64,
}

pub fn run(args: &Args, json: bool) -> Result<Report> {
    let mut reference: Reference = read_json(&args.file)?;
    reference.chunks.iter_mut().for_each(|c| c.ids.truncate(args.tokens));
    let chunks = &reference.chunks[..reference.chunks.len().min(args.chunks)];
    let Some(longest) = chunks.iter().map(|c| c.ids.len()).max() else {
        return Err(
            Error::new(ErrorKind::InvalidArgument, "no chunks to run; expected at least one").at(args.file.display())
        );
    };
    let options = || Options { n_ctx: Some(longest), max_outputs: ROWS, ..args.model.device.options() };
    let mut opened = model::open(&args.model.model, &args.model.device, options(), Purpose::Compare)?;
    let mut exact = match args.kl {
        true => Some(model::open(&args.model.model, &args.model.device.exact(), options(), Purpose::Compare)?.session),
        false => None,
    };
    let mut divergence = Divergence::default();
    let start = Instant::now();
    let mut all = Sums::default();
    for (i, chunk) in chunks.iter().enumerate() {
        let one = run_chunk(&mut opened.session, chunk)?;
        all.add(&one);
        if !json {
            println!("chunk {i}: ppl {:.4}, reference {:.4}", one.ppl(one.ours), one.ppl(one.reference));
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    if let Some(exact) = &mut exact {
        for chunk in chunks {
            divergence.run_chunk(exact, &mut opened.session, &chunk.ids)?;
        }
    }
    let (ppl, want) = (all.ppl(all.ours), all.ppl(all.reference));
    if !json {
        let ratio = ppl / want;
        println!("ppl {ppl:.5}, reference {want:.5}, ratio {ratio:.6}, largest nll difference {:.2e}", all.max_diff);
    }
    divergence.tokens.sort_unstable_by(f64::total_cmp);
    if args.kl && !json {
        let Divergence { same, tokens } = &divergence;
        println!(
            "KL divergence from f32: mean {:.2e}, median {:.2e}, 99 % below {:.2e}; the likeliest token is the same {same} times of {}",
            divergence.mean(),
            divergence.quantile(0.5),
            divergence.quantile(0.99),
            tokens.len(),
        );
    }
    let json = json!({
        "backend": opened.session.backend().name(),
        "device": opened.device,
        "chunks": chunks.len(),
        "tokens": all.n,
        "mean_nll": all.ours / all.n as f64,
        "ppl": ppl,
        "reference_ppl": want,
        "ratio": ppl / want,
        "max_abs_nll_diff": all.max_diff,
        "divergence": args.kl.then(|| divergence.json()),
        "tokens_per_s": all.n as f64 / seconds,
    });
    Ok(Report { json, ok: (ppl / want - 1.0).abs() <= args.tol })
}

fn run_chunk(session: &mut Session, chunk: &Chunk) -> Result<Sums> {
    let mut sums = Sums::default();
    // The row after the last token has no target.
    let mut targets = chunk.ids.iter().skip(1).zip(&chunk.nll);
    session.rollback(0)?;
    block_on(session.prefill_all(&chunk.ids, |row| {
        if let Some((&id, &want)) = targets.next() {
            sums.push(nll(row, id), want);
        }
    }))?;
    Ok(sums)
}

/// How far the distributions of tokens are from those of f32, one number a token.
#[derive(Default)]
struct Divergence {
    /// `sum p ln(p / q)`, with p in f32.
    tokens: Vec<f64>,
    /// Tokens whose likeliest successor is the same.
    same: usize,
}

impl Divergence {
    fn run_chunk(&mut self, exact: &mut Session, session: &mut Session, ids: &[u32]) -> Result<()> {
        exact.rollback(0)?;
        session.rollback(0)?;
        for ids in ids.chunks(ROWS) {
            let (mut p, mut q) = (Vec::new(), Vec::new());
            block_on(exact.prefill_all(ids, |row| p.push(row.to_vec())))?;
            block_on(session.prefill_all(ids, |row| q.push(row.to_vec())))?;
            for (p, q) in p.iter().zip(&q) {
                self.tokens.push(kl(p, q));
                self.same += usize::from(likeliest(p) == likeliest(q));
            }
        }
        Ok(())
    }

    /// Of the sorted tokens.
    fn json(&self) -> serde_json::Value {
        json!({
            "mean": self.mean(),
            "median": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "max": self.tokens.last(),
            "same_likeliest": self.same as f64 / self.tokens.len() as f64,
        })
    }

    fn mean(&self) -> f64 {
        self.tokens.iter().sum::<f64>() / self.tokens.len() as f64
    }

    /// Of the sorted tokens.
    fn quantile(&self, part: f64) -> f64 {
        self.tokens.get((part * self.tokens.len() as f64) as usize).copied().unwrap_or_default()
    }
}

/// The Kullback-Leibler divergence of the softmax of `q` from that of `p`, in nats.
fn kl(p: &[f32], q: &[f32]) -> f64 {
    let (of_p, of_q) = (super::log_sum_exp(p), super::log_sum_exp(q));
    let each = p.iter().zip(q).map(|(&p, &q)| {
        let p = f64::from(p) - of_p;
        p.exp() * (p - (f64::from(q) - of_q))
    });
    each.sum()
}

fn likeliest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

impl Sums {
    fn push(&mut self, ours: f64, reference: f64) {
        self.add(&Sums { n: 1, ours, reference, max_diff: (ours - reference).abs() });
    }

    fn add(&mut self, other: &Sums) {
        self.n += other.n;
        self.ours += other.ours;
        self.reference += other.reference;
        self.max_diff = self.max_diff.max(other.max_diff);
    }

    fn ppl(&self, nll: f64) -> f64 {
        (nll / self.n as f64).exp()
    }
}

/// `-ln softmax(row)[id]`.
fn nll(row: &[f32], id: u32) -> f64 {
    let logit = row.get(id as usize).map_or(f64::NEG_INFINITY, |&l| f64::from(l));
    super::log_sum_exp(row) - logit
}
