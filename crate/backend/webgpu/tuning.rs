//! Which variants of kernels run, and how that is kept from one start to the next.

use serde::{Deserialize, Serialize};

use super::WebGpu;
use super::tune::{Clock, tune};
use crate::backend::Limits;
use crate::error::Result;
use crate::graph::Plan;

/// What decides between variants of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Shaders run on the CPU: a barrier is dear, uncoalesced reads are not.
    #[serde(skip)]
    pub software: bool,
    /// The gemv of matrices with many rows, and with few, which need all the workgroups that they can have.
    pub wide: Gemv,
    pub narrow: Gemv,
    /// Keys of a chunk of split attention, at most.
    pub keys: usize,
    pub gemm: Gemm,
}

/// How a gemv of one row of x is shared among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gemv {
    /// Rows of a thread: with more of them it loads x less often.
    pub rows: usize,
    /// Threads that share the runs of a row, at most.
    pub lanes: usize,
}

/// How the rows of long steps are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gemm {
    F32,
    /// In whole numbers of 8 bits, where the matrix has them.
    Q8,
}

/// One choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Wide(Gemv),
    Narrow(Gemv),
    Keys(usize),
    Gemm(Gemm),
}

/// A variant that may be faster than the one that runs by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub change: Change,
    /// How far its numbers may be from those of the default, of the largest of them.
    pub tolerance: f32,
}

/// Sums in another order.
const REORDERED: f32 = 1e-4;

/// Half the step of a whole number is an error of 1/254 of a block's largest activation, at random in each term: measured
/// on random numbers, below 0.5 % of the largest sum.
const ROUNDED: f32 = 2e-2;

const GEMVS: [Gemv; 6] = [
    Gemv { rows: 2, lanes: 32 },
    Gemv { rows: 4, lanes: 32 },
    Gemv { rows: 8, lanes: 32 },
    Gemv { rows: 2, lanes: 16 },
    Gemv { rows: 4, lanes: 16 },
    Gemv { rows: 4, lanes: 8 },
];

/// What is measured. The default is always among it.
pub fn candidates(tuning: Tuning) -> Vec<Candidate> {
    let exact = |change| Candidate { change, tolerance: REORDERED };
    let gemms: &[Gemm] = if tuning.gemm == Gemm::Q8 { &[Gemm::F32, Gemm::Q8] } else { &[Gemm::F32] };
    (GEMVS.map(|g| exact(Change::Wide(g))).into_iter())
        .chain(GEMVS.map(|g| exact(Change::Narrow(g))))
        .chain([256, 128, 64].map(|keys| exact(Change::Keys(keys))))
        .chain(gemms.iter().map(|g| Candidate { change: Change::Gemm(*g), tolerance: ROUNDED }))
        .collect()
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: String,
    /// Whether whole numbers were among the candidates.
    q8: bool,
    #[serde(flatten)]
    tuning: Tuning,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Tuning {
    /// What runs where nothing was measured.
    pub fn new(software: bool, gemm: Gemm) -> Self {
        let (wide, narrow) = (Gemv { rows: 4, lanes: 32 }, Gemv { rows: 2, lanes: 32 });
        Self { software, wide, narrow, keys: 256, gemm }
    }

    #[must_use]
    pub fn with(self, change: Change) -> Self {
        match change {
            Change::Wide(wide) => Self { wide, ..self },
            Change::Narrow(narrow) => Self { narrow, ..self },
            Change::Keys(keys) => Self { keys, ..self },
            Change::Gemm(gemm) => Self { gemm, ..self },
        }
    }

    /// A line of JSON for [`Tuning::recorded`]; `default` is what ran before it was measured.
    pub fn record(self, default: Self) -> String {
        let q8 = default.gemm == Gemm::Q8;
        let record = Record { version: VERSION.to_string(), q8, tuning: self };
        serde_json::to_string(&record).expect("numbers and names are JSON")
    }

    /// What a record says, in place of this default. `None` where it is broken, or of another version or other needs.
    pub fn recorded(self, record: &str) -> Option<Self> {
        let r: Record = serde_json::from_str(record).ok()?;
        let known = candidates(self);
        let t = Self { software: self.software, ..r.tuning };
        let changes = [Change::Wide(t.wide), Change::Narrow(t.narrow), Change::Keys(t.keys), Change::Gemm(t.gemm)];
        let known = changes.iter().all(|c| known.iter().any(|k| k.change == *c));
        (known && r.version == VERSION && r.q8 == (self.gemm == Gemm::Q8)).then_some(t)
    }
}

impl WebGpu {
    /// Which variants of kernels the next plan runs.
    pub fn tuning(&self) -> Tuning {
        self.gpu.tuning
    }

    /// Takes the variants that a record of [`WebGpu::tune`] names. False where it is broken, or of another version or for
    /// other needs: then it is time to measure again. Whether the record is of this adapter and driver, the host knows.
    pub fn adopt(&mut self, record: &str) -> bool {
        let recorded = self.gpu.default.recorded(record);
        self.gpu.tuning = recorded.unwrap_or(self.gpu.default);
        recorded.is_some()
    }

    /// Measures which variants of kernels are the fastest for matrices of this plan, takes them for the plans that are
    /// prepared after it, and returns a record for the host to keep. It takes a second, about. `None` on a software
    /// adapter, where there is nothing to choose.
    pub async fn tune(&mut self, plan: &Plan, limits: Limits, clock: Clock<'_>) -> Result<Option<String>> {
        self.tune_among(&candidates(self.gpu.default), plan, limits, clock).await
    }

    /// The same among these. Those whose numbers are not the default's are never chosen.
    pub async fn tune_among(
        &mut self,
        candidates: &[Candidate],
        plan: &Plan,
        limits: Limits,
        clock: Clock<'_>,
    ) -> Result<Option<String>> {
        self.gpu.fault.check()?;
        self.gpu.tuning = self.gpu.default;
        if self.gpu.default.software {
            return Ok(None);
        }
        self.gpu.tuning = tune(&self.gpu, plan, limits, candidates, clock).await?;
        tracing::info!("tuned: {:?}", self.gpu.tuning);
        Ok(Some(self.gpu.tuning.record(self.gpu.default)))
    }
}
