//! The cost of a decoded token, kernel by kernel.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Engine;
use crate::backend::Step;
use crate::error::Result;

/// Times of one decoded token, the mean of several.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Tokens in the cache before it.
    pub depth: usize,
    /// The slowest first.
    pub kernels: Vec<KernelTime>,
    /// Microseconds of all kernels of a token.
    pub us_per_token: f64,
    /// Of a kernel that only reads a large buffer.
    pub read_bytes_per_s: f64,
}

/// All dispatches of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelTime {
    /// The name of its shader, such as `gemv`.
    pub kernel: &'static str,
    /// Dispatches per token.
    pub dispatches_per_token: f64,
    /// Microseconds of all of these.
    pub us_per_token: f64,
    /// Packed bytes; with experts those of the experts used.
    pub weight_bytes_per_token: f64,
    /// How fast it reads them, if it reads any.
    pub bytes_per_s: Option<f64>,
    /// That rate as a fraction of [`Profile::read_bytes_per_s`].
    pub fraction_of_read: Option<f64>,
}

impl Engine {
    /// Runs a token `reps` times after `depth` others, each kernel by itself, and returns how long each took, on
    /// backends that can measure it.
    pub async fn profile(&mut self, depth: usize, reps: usize) -> Result<Profile> {
        let n_vocab = self.n_vocab;
        let tokens: Vec<_> = (0..depth + 1).map(|i| (i * 7919 % n_vocab) as u32).collect();
        let mut s = self.sequence();
        self.check(0, &tokens)?;
        if depth > 0 {
            self.prefill_part(&mut s, &tokens[..depth]).await?;
        }
        self.ready(&mut s, 1).await?;
        self.abandon();
        self.drain().await?;
        let mut kernels = BTreeMap::<_, KernelTime>::new();
        let mut read_bytes_per_s = 0.0f64;
        let reps = reps.max(1);
        for rep in 0..=reps {
            self.begin_states(&mut s, 1)?;
            let timed = self.backend.profile(&Step::trunk(&[s.segment(&tokens[depth..], depth, 1)])).await?;
            s.end_states(0);
            read_bytes_per_s = read_bytes_per_s.max(timed.read_bytes_per_s);
            // The first one warms up.
            for t in timed.kernels.iter().filter(|_| rep > 0) {
                let all = kernels.entry(t.kernel).or_default();
                all.kernel = t.kernel;
                all.dispatches_per_token += 1.0;
                all.us_per_token += t.ns / 1e3;
                all.weight_bytes_per_token += t.weight_bytes as f64;
            }
        }
        let mut kernels: Vec<_> = kernels.into_values().collect();
        for k in &mut kernels {
            for sum in [&mut k.dispatches_per_token, &mut k.us_per_token, &mut k.weight_bytes_per_token] {
                *sum /= reps as f64;
            }
            if k.weight_bytes_per_token > 0.0 && k.us_per_token > 0.0 {
                let speed = k.weight_bytes_per_token / (k.us_per_token * 1e-6);
                (k.bytes_per_s, k.fraction_of_read) = (Some(speed), Some(speed / read_bytes_per_s));
            }
        }
        kernels.sort_by(|a, b| b.us_per_token.total_cmp(&a.us_per_token));
        let us_per_token = kernels.iter().map(|k| k.us_per_token).sum();
        Ok(Profile { depth, kernels, us_per_token, read_bytes_per_s })
    }
}
