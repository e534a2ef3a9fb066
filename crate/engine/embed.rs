//! Embeddings: the last hidden states of texts, pooled to a vector each.

use std::collections::VecDeque;

use serde::Deserialize;

use super::embeds::Embeds;
use super::{Engine, Row, Sequence};
use crate::arch::Pooling;
use crate::backend::{BLOCK, MAX_SEGMENTS};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// What is made of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbedParams {
    /// By default what the file says; else the last token's row, or the mean where tokens see the ones after them.
    pub pooling: Option<Pooling>,
    /// Divides each vector by its Euclidean norm, so that a dot product is the cosine.
    pub normalize: bool,
    /// Keeps the first so many values of a vector, before it is normalised: for models that were trained for it
    /// (<https://arxiv.org/abs/2205.13147>).
    pub dimensions: Option<usize>,
}

impl Default for EmbedParams {
    fn default() -> Self {
        Self { pooling: None, normalize: true, dimensions: None }
    }
}

/// A text that runs.
struct Text<'a> {
    index: usize,
    tokens: &'a [u32],
    sequence: Sequence,
    rows: Rows,
}

/// The rows of a text so far.
struct Rows {
    pooling: Pooling,
    /// All of them without pooling, their sum for a mean, else the one that was wanted.
    values: Vec<f32>,
}

impl Rows {
    /// How many of the last rows of a part, which is the first one or the last one or both, are wanted.
    fn wanted(&self, len: usize, first: bool, last: bool) -> usize {
        match self.pooling {
            Pooling::None | Pooling::Mean => len,
            Pooling::Cls => {
                if first {
                    len
                } else {
                    0
                }
            }
            Pooling::Last | Pooling::Rank => usize::from(last),
        }
    }

    fn add(&mut self, rows: &[f32], dims: usize) {
        match self.pooling {
            Pooling::None => self.values.extend_from_slice(rows),
            Pooling::Mean => {
                self.values.resize(dims, 0.0);
                rows.chunks_exact(dims).for_each(|row| self.values.iter_mut().zip(row).for_each(|(s, x)| *s += x));
            }
            Pooling::Cls | Pooling::Last | Pooling::Rank => self.values.extend(rows.iter().take(dims)),
        }
    }

    /// The vectors of a text of `n` tokens.
    fn finish(mut self, n: usize, dims: usize, params: &EmbedParams) -> Vec<f32> {
        if self.pooling == Pooling::Rank {
            probabilities(&mut self.values);
            return self.values;
        }
        if self.pooling == Pooling::Mean {
            self.values.iter_mut().for_each(|x| *x /= n as f32);
        }
        let kept = params.dimensions.unwrap_or(dims);
        let mut out = Vec::with_capacity(self.values.len() / dims * kept);
        for row in self.values.chunks_exact(dims) {
            let row = &row[..kept];
            let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let factor = if params.normalize && norm > 0.0 { (1.0 / norm) as f32 } else { 1.0 };
            out.extend(row.iter().map(|x| x * factor));
        }
        out
    }
}

/// Those of classes by their scores; a single class has no other to be compared with.
fn probabilities(scores: &mut [f32]) {
    if scores.len() < 2 {
        return;
    }
    let most = scores.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    scores.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|x| *x /= sum);
}

impl Engine {
    /// Columns of an embedding, if the model was opened for embeddings.
    pub fn embedding_length(&self) -> Option<usize> {
        self.embeds.map(|_| self.n_output)
    }

    /// How rows become a vector where a caller does not say.
    pub fn pooling(&self) -> Option<Pooling> {
        self.embeds.map(|e| e.pooling)
    }

    /// The embeddings of texts, in their order: of each a vector, or without pooling a vector for each token, one after
    /// another. Several texts share a step. Everything that can be wrong with one of them is found before any of them
    /// runs.
    pub async fn embed(&mut self, texts: &[&[u32]], params: &EmbedParams) -> Result<Vec<Vec<f32>>> {
        let Some(Embeds { pooling, whole }) = self.embeds else {
            bail!(InvalidState, "the model was opened to generate; open it with `embeddings` to get embeddings")
        };
        let dims = self.n_output;
        if let Some(n) = params.dimensions.filter(|n| !(1..=dims).contains(n)) {
            bail!(InvalidArgument, "an embedding of this model has 1 to {dims} dimensions, not {n}");
        }
        let ranks = pooling == Pooling::Rank;
        if params.pooling.is_some_and(|p| (p == Pooling::Rank) != ranks) || ranks && params.dimensions.is_some() {
            let does =
                if ranks { "ranks documents and makes no embeddings" } else { "makes embeddings and does not rank" };
            bail!(InvalidArgument, "the model {does}; leave `pooling` and `dimensions` out");
        }
        let most = self.limits.max_tokens;
        for (i, text) in texts.iter().enumerate() {
            let place = |e: Error| if texts.len() > 1 { e.at(format!("text {i}")) } else { e };
            self.check(0, text).map_err(place)?;
            if whole && text.len() > most {
                let n = text.len();
                return Err(place(Error::new(
                    ErrorKind::ContextOverflow,
                    format!("{n} tokens do not fit in a step of {most}, and each sees all others: shorten the text"),
                )));
            }
        }
        let pooling = params.pooling.unwrap_or(pooling);
        let mut waiting: VecDeque<usize> = (0..texts.len()).collect();
        let mut running: Vec<Text<'_>> = Vec::with_capacity(MAX_SEGMENTS);
        let mut out = vec![Vec::new(); texts.len()];
        while !(waiting.is_empty() && running.is_empty()) {
            self.admit(texts, pooling, whole, &mut waiting, &mut running);
            self.embed_step(&mut running, whole).await?;
            for i in (0..running.len()).rev() {
                if running[i].sequence.tokens().len() == running[i].tokens.len() {
                    let Text { index, tokens, rows, .. } = running.remove(i);
                    out[index] = rows.finish(tokens.len(), dims, params);
                }
            }
        }
        Ok(out)
    }

    /// Lets in texts for which there is room in the next step and in the cache: at least one if none runs.
    fn admit<'a>(
        &mut self,
        texts: &[&'a [u32]],
        pooling: Pooling,
        whole: bool,
        waiting: &mut VecDeque<usize>,
        running: &mut Vec<Text<'a>>,
    ) {
        let left = |t: &Text<'_>| t.tokens.len() - t.sequence.tokens().len();
        let mut tokens: usize = running.iter().map(left).sum();
        let mut blocks: usize = running.iter().map(|t| t.tokens.len().div_ceil(BLOCK)).sum();
        let room = self.kinds.iter().map(|k| self.blocks[*k as usize].limit()).min().unwrap_or(usize::MAX);
        // A step reads one state of a sequence and writes another.
        let most = if self.past.recurrent { (self.slots.limit() / 2).min(MAX_SEGMENTS) } else { MAX_SEGMENTS };
        while let Some(&index) = waiting.front() {
            let text = texts[index];
            tokens += if whole { text.len() } else { 0 };
            blocks += text.len().div_ceil(BLOCK);
            let fits = running.len() < most && tokens <= self.limits.max_tokens && blocks <= room;
            if !(fits || running.is_empty()) {
                return;
            }
            tokens += if whole { 0 } else { text.len() };
            waiting.pop_front();
            let rows = Rows { pooling, values: Vec::new() };
            running.push(Text { index, tokens: text, sequence: self.sequence(), rows });
        }
    }

    /// Runs the next part of each text that has room in a step.
    async fn embed_step(&mut self, running: &mut [Text<'_>], whole: bool) -> Result<()> {
        let mut left = self.limits.max_tokens;
        let mut rows = Vec::with_capacity(running.len());
        for Text { tokens, sequence, rows: of, .. } in running.iter_mut() {
            let at = sequence.tokens().len();
            let n = left.min(tokens.len() - at);
            if n == 0 || whole && n < tokens.len() {
                break;
            }
            left -= n;
            let outputs = of.wanted(n, at == 0, at + n == tokens.len());
            rows.push(Row { sequence, tokens: &tokens[at..at + n], outputs });
        }
        let outputs: Vec<_> = rows.iter().map(|r| r.outputs).collect();
        let values = self.run(&mut rows).await?;
        let dims = values.len() / outputs.iter().sum::<usize>().max(1);
        let mut at = 0;
        for (text, n) in running.iter_mut().zip(outputs) {
            text.rows.add(&values[at..at + n * dims], dims);
            at += n * dims;
        }
        Ok(())
    }
}
