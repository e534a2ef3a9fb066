//! Decoding in steps of several rows: of several sequences, or of tokens that were proposed.

use std::time::Instant;

use pagelm::engine::{
    Draft, Engine, Event, GenerateParams, Generation, Row, Sampler, SamplerParams, Sequence, Session, Speculated,
};
use pagelm::text::Tokenizer;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;

/// Decodes `n` tokens in each of `rows` sequences with the same past.
pub fn decode_rows(session: &mut Session, n: usize, rows: usize) -> Result<()> {
    let (engine, past) = session.parts();
    let len = past.tokens().len();
    let mut sequences = (0..rows).map(|_| engine.fork(past, len)).collect::<Result<Vec<_>>>()?;
    // Different tokens, as in different conversations.
    let mut ids: Vec<u32> = (0..rows as u32).collect();
    let mut sampler = Sampler::new(SamplerParams::greedy())?;
    for _ in 0..n {
        step(engine, &mut sequences, &mut ids, &mut sampler)?;
    }
    Ok(())
}

fn step(engine: &mut Engine, sequences: &mut [Sequence], ids: &mut [u32], sampler: &mut Sampler) -> Result<()> {
    let n_vocab = engine.n_vocab();
    let each = sequences.iter_mut().zip(ids.iter());
    let mut rows: Vec<_> =
        each.map(|(sequence, id)| Row { sequence, tokens: std::slice::from_ref(id), outputs: 1 }).collect();
    let logits = block_on(engine.run(&mut rows))?;
    for (id, row) in ids.iter_mut().zip(logits.chunks_exact_mut(n_vocab)) {
        *id = sampler.sample(row, &[])?;
    }
    Ok(())
}

/// Decodes `params.max_tokens` tokens after the `known` ones. Gives the draft model back.
pub fn generate(
    session: &mut Session,
    tokenizer: &Tokenizer,
    known: &[u32],
    params: GenerateParams,
    draft: Option<Draft>,
) -> Result<(Speculated, Option<Draft>)> {
    let start = Instant::now();
    let now = || start.elapsed().as_secs_f64() * 1e3;
    let wanted = params.max_tokens;
    let mut generation = Generation::with_draft(session, tokenizer, known, params, draft, now())?;
    loop {
        match block_on(generation.next(session, tokenizer, &now))? {
            Some(Event::Done { usage, .. }) if Some(usage.completion_tokens) == wanted => {
                return Ok((usage.speculated, generation.take_draft()));
            }
            Some(Event::Done { usage, .. }) => {
                let n = usage.completion_tokens;
                let text = format!("the answer of the grammar ended after {n} tokens; measure fewer with --tg {n}");
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
            Some(_) => {}
            None => return Err(Error::new(ErrorKind::InvalidState, "the generation ended without a report")),
        }
    }
}

/// Greedy, past the end of the text.
pub fn greedy(n: usize) -> GenerateParams {
    let sampler = SamplerParams::greedy();
    GenerateParams { max_tokens: Some(n), sampler, ignore_eos: true, ..GenerateParams::default() }
}
