//! Which kernel variants run, and the record that keeps a measured choice.

use serde::{Deserialize, Serialize};

use crate::backend::FINE_POSITIONS;

/// The most rows of x for which a gemv runs; with more a gemm runs.
pub(super) const GEMV_MAX_ROWS: usize = 16;

/// The fewest rows of a wide matrix.
pub(super) const WIDE_MATRIX_ROWS: usize = 4096;

/// The choice between variants of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Shaders run on the CPU: barriers are expensive, uncoalesced reads are cheap, and workgroups are small.
    /// `kernels::matmul::software` says what that gains.
    #[serde(skip)]
    pub software: bool,
    /// Products of so many first positions are in f32 whatever `gemm` says.
    #[serde(skip)]
    pub fine: usize,
    /// The gemv of matrices with at least 4096 rows (`WIDE_MATRIX_ROWS`).
    pub wide: Gemv,
    /// The gemv of smaller matrices, which need more workgroups per row to fill the GPU.
    pub narrow: Gemv,
    /// The fewest keys of a chunk of split attention.
    pub attn_chunk: usize,
    /// The arithmetic of long steps.
    pub gemm: Gemm,
    /// The workgroups of a product that fill the GPU: where a step has fewer, its tiles are smaller.
    pub fill: usize,
}

/// How threads share the gemv of one row of x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gemv {
    /// Rows per thread: with more of them x is loaded less often.
    pub rows: usize,
    /// The most threads that share the runs of a row.
    pub lanes: usize,
    /// Threads of a workgroup: with more of them loading x costs less per thread.
    pub threads: usize,
}

/// The arithmetic of a gemm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gemm {
    /// In f32.
    F32,
    /// In int8, if the type of the matrix allows it.
    Q8,
}

/// One choice among variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    /// Sets [`Tuning::wide`].
    Wide(Gemv),
    /// Sets [`Tuning::narrow`].
    Narrow(Gemv),
    /// Sets [`Tuning::attn_chunk`].
    AttnChunk(usize),
    /// Sets [`Tuning::gemm`].
    Gemm(Gemm),
    /// Sets [`Tuning::fill`].
    Fill(usize),
}

/// A variant that may be faster than the one that runs by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The choice that it sets.
    pub knob: Knob,
    /// The largest difference from the results of the default, relative to the largest of them.
    pub tolerance: f32,
}

/// Sums in another order.
const REORDERED: f32 = 1e-4;

/// Rounding to int8 is an error of at most 1/254 of a block's largest activation, at random in each term: measured on
/// random numbers, below 0.5 % of the largest sum.
const ROUNDED: f32 = 2e-2;

const GEMVS: [Gemv; 8] = [
    Gemv { rows: 1, lanes: 32, threads: 64 },
    Gemv { rows: 2, lanes: 32, threads: 64 },
    Gemv { rows: 4, lanes: 32, threads: 64 },
    Gemv { rows: 2, lanes: 32, threads: 128 },
    Gemv { rows: 4, lanes: 32, threads: 128 },
    Gemv { rows: 2, lanes: 16, threads: 64 },
    Gemv { rows: 4, lanes: 16, threads: 128 },
    Gemv { rows: 4, lanes: 8, threads: 64 },
];

/// Tiles as large as the step has rows for, and those that fill small and large GPUs.
const FILLS: [usize; 3] = [1, 64, 256];

/// The candidates that are measured, the default among them.
pub fn candidates(tuning: Tuning) -> Vec<Candidate> {
    let exact = |knob| Candidate { knob, tolerance: REORDERED };
    let gemms: &[Gemm] = if tuning.gemm == Gemm::Q8 { &[Gemm::F32, Gemm::Q8] } else { &[Gemm::F32] };
    (GEMVS.map(|g| exact(Knob::Wide(g))).into_iter())
        .chain(GEMVS.map(|g| exact(Knob::Narrow(g))))
        .chain([32, 64, 128].map(|n| exact(Knob::AttnChunk(n))))
        .chain(gemms.iter().map(|g| Candidate { knob: Knob::Gemm(*g), tolerance: ROUNDED }))
        .chain(FILLS.map(|n| exact(Knob::Fill(n))))
        .collect()
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: String,
    /// Whether int8 was among the candidates.
    q8: bool,
    #[serde(flatten)]
    tuning: Tuning,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Tuning {
    /// The defaults, which run if nothing was measured.
    pub fn new(software: bool, gemm: Gemm) -> Self {
        let wide = Gemv { rows: 4, lanes: 32, threads: 128 };
        let narrow = Gemv { rows: 2, lanes: 32, threads: 128 };
        Self { software, fine: FINE_POSITIONS, wide, narrow, attn_chunk: 32, gemm, fill: 64 }
    }

    /// The same with one choice replaced.
    #[must_use]
    pub fn with(self, knob: Knob) -> Self {
        match knob {
            Knob::Wide(wide) => Self { wide, ..self },
            Knob::Narrow(narrow) => Self { narrow, ..self },
            Knob::AttnChunk(attn_chunk) => Self { attn_chunk, ..self },
            Knob::Gemm(gemm) => Self { gemm, ..self },
            Knob::Fill(fill) => Self { fill, ..self },
        }
    }

    /// A line of JSON for [`Tuning::recorded`]; `default` is what ran before the measurement.
    pub fn record(self, default: Self) -> String {
        let q8 = default.gemm == Gemm::Q8;
        let record = Record { version: VERSION.to_string(), q8, tuning: self };
        serde_json::to_string(&record).expect("numbers and names are JSON")
    }

    /// The recorded choice, in place of this default. `None` if the record is not valid, of another version, or of
    /// other candidates.
    pub fn recorded(self, record: &str) -> Option<Self> {
        let r: Record = serde_json::from_str(record).ok()?;
        let known = candidates(self);
        let t = Self { software: self.software, fine: self.fine, ..r.tuning };
        let gemvs = [Knob::Wide(t.wide), Knob::Narrow(t.narrow)];
        let rest = [Knob::AttnChunk(t.attn_chunk), Knob::Gemm(t.gemm), Knob::Fill(t.fill)];
        let mut knobs = gemvs.iter().chain(&rest);
        let known = knobs.all(|c| known.iter().any(|k| k.knob == *c));
        (known && r.version == VERSION && r.q8 == (self.gemm == Gemm::Q8)).then_some(t)
    }
}
