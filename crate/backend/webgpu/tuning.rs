//! Which variants of kernels run, and how that is kept from one start to the next.

use serde::{Deserialize, Serialize};

/// Rows of x up to which a gemv runs: more of them are a gemm.
pub const GEMV_MAX_ROWS: usize = 16;

/// Rows of a matrix from which on it is wide.
pub const WIDE_MATRIX_ROWS: usize = 4096;

/// What decides between variants of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Shaders run on the CPU: barriers are expensive, uncoalesced reads are cheap, and workgroups are small. What that
    /// brings is said in `kernels::matmul::software`.
    #[serde(skip)]
    pub software: bool,
    /// The gemv of matrices with many rows, and with few, which need all the workgroups that they can have.
    pub wide: Gemv,
    pub narrow: Gemv,
    /// Keys of a chunk of split attention, at least.
    pub attn_chunk: usize,
    pub gemm: Gemm,
}

/// How a gemv of one row of x is shared among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gemv {
    /// Rows of a thread: with more of them it loads x less often.
    pub rows: usize,
    /// Threads that share the runs of a row, at most.
    pub lanes: usize,
    /// Threads of a workgroup: more of them share what x costs.
    pub threads: usize,
}

/// How the rows of long steps are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gemm {
    F32,
    /// In int8, where the type of the matrix allows it.
    Q8,
}

/// One choice among variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knob {
    Wide(Gemv),
    Narrow(Gemv),
    AttnChunk(usize),
    Gemm(Gemm),
}

/// A variant that may be faster than the one that runs by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub knob: Knob,
    /// How far its numbers may be from those of the default, of the largest of them.
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

/// What is measured. The default is always among it.
pub fn candidates(tuning: Tuning) -> Vec<Candidate> {
    let exact = |knob| Candidate { knob, tolerance: REORDERED };
    let gemms: &[Gemm] = if tuning.gemm == Gemm::Q8 { &[Gemm::F32, Gemm::Q8] } else { &[Gemm::F32] };
    (GEMVS.map(|g| exact(Knob::Wide(g))).into_iter())
        .chain(GEMVS.map(|g| exact(Knob::Narrow(g))))
        .chain([32, 64, 128].map(|n| exact(Knob::AttnChunk(n))))
        .chain(gemms.iter().map(|g| Candidate { knob: Knob::Gemm(*g), tolerance: ROUNDED }))
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
    /// What runs where nothing was measured.
    pub fn new(software: bool, gemm: Gemm) -> Self {
        let wide = Gemv { rows: 4, lanes: 32, threads: 64 };
        let narrow = Gemv { rows: 2, lanes: 32, threads: 128 };
        Self { software, wide, narrow, attn_chunk: 32, gemm }
    }

    #[must_use]
    pub fn with(self, knob: Knob) -> Self {
        match knob {
            Knob::Wide(wide) => Self { wide, ..self },
            Knob::Narrow(narrow) => Self { narrow, ..self },
            Knob::AttnChunk(attn_chunk) => Self { attn_chunk, ..self },
            Knob::Gemm(gemm) => Self { gemm, ..self },
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
        let knobs = [Knob::Wide(t.wide), Knob::Narrow(t.narrow), Knob::AttnChunk(t.attn_chunk), Knob::Gemm(t.gemm)];
        let known = knobs.iter().all(|c| known.iter().any(|k| k.knob == *c));
        (known && r.version == VERSION && r.q8 == (self.gemm == Gemm::Q8)).then_some(t)
    }
}
