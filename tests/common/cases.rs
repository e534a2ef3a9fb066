//! Small graphs around one op, with seeded inputs: what every backend runs and is compared on.

use half::{bf16, f16};
use pagelm::DType;
use pagelm::backend::{KvType, Limits};
use pagelm::graph::{Builder, Plan, StateId, ValueId, WeightId};

use super::rng::Rng;

/// A matrix of random packed blocks. `None` where these tests know no sane scales for the type.
pub fn packed(rng: &mut Rng, dtype: DType, rows: usize, cols: usize) -> Option<Vec<u8>> {
    let n = rows * dtype.row_bytes(cols).expect("whole blocks");
    let scales: &[usize] = match dtype {
        DType::F32 => return Some(rng.values(rows * cols).iter().flat_map(|v| v.to_le_bytes()).collect()),
        DType::F16 => {
            return Some(rng.values(rows * cols).iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect());
        }
        DType::BF16 => {
            return Some(rng.values(rows * cols).iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect());
        }
        _ => scales(dtype)?,
    };
    let mut bytes: Vec<u8> = (0..n).map(|_| rng.next() as u8).collect();
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for &at in scales {
            let scale = rng.range(0.002, 0.05) * if rng.below(40) == 0 { 20.0 } else { 1.0 };
            block[at..at + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        }
        if dtype == DType::MXFP4 {
            block[0] = 120 + rng.below(8) as u8; // a power of two from 2^-7
        }
        if dtype == DType::IQ1_M {
            let scale = f16::from_f32(rng.range(0.002, 0.05)).to_bits();
            for i in 0..4 {
                let high = &mut block[49 + i * 2]; // its upper half is nibble i of the scale
                *high = *high & 15 | ((scale >> (4 * i) & 15) << 4) as u8;
            }
        }
        if dtype == DType::NVFP4 {
            // Floats of 8 bits, below 2 or the one that is no number, with a sign that does not count.
            block[..4].fill_with(|| (if rng.below(9) == 0 { 127 } else { rng.below(64) } | rng.below(2) << 7) as u8);
        }
    }
    Some(bytes)
}

/// Where the blocks of a type have f16 scales. `None` for types that are not known here.
fn scales(dtype: DType) -> Option<&'static [usize]> {
    Some(match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::Q1_0 | DType::Q2_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::IQ2_XXS | DType::IQ2_XS | DType::IQ2_S | DType::IQ3_XXS | DType::IQ3_S | DType::IQ1_S => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::TQ1_0 => &[52],
        DType::TQ2_0 => &[64],
        DType::MXFP4 | DType::NVFP4 | DType::IQ1_M => &[],
        _ => return None,
    })
}

/// A plan, the bytes of its weights, and the steps to run: how many tokens each, from position `start` on.
pub struct Case {
    pub name: String,
    pub plan: Plan,
    pub limits: Limits,
    pub weights: Vec<Vec<u8>>,
    pub tokens: Vec<u32>,
    pub steps: Vec<usize>,
    pub start: usize,
}

impl Case {
    /// A case that runs `steps` and gives back every row of the value that `build` makes.
    pub fn new(name: impl Into<String>, steps: &[usize], build: impl FnOnce(&mut Parts) -> ValueId) -> Self {
        Self::of_outputs(name, steps, |p| {
            let out = build(p);
            p.g.last_rows(out)
        })
    }

    /// The same where the value that `build` makes has a row for each output of a step.
    pub fn of_outputs(name: impl Into<String>, steps: &[usize], build: impl FnOnce(&mut Parts) -> ValueId) -> Self {
        let name = name.into();
        let total = steps.iter().sum();
        let mut p =
            Parts { g: Builder::new(), rng: Rng::named(&name), weights: Vec::new(), states: 0, vocab: total + 5 };
        let out = build(&mut p);
        let most = steps.iter().copied().max().expect("at least one step");
        let tokens = (0..total).map(|_| p.rng.below(p.vocab) as u32).collect();
        let limits = Limits::one(total, most, KvType::F32);
        let plan = Plan::new(p.g.finish(out));
        Self { name, plan, limits, weights: p.weights, tokens, steps: steps.to_vec(), start: 0 }
    }

    /// The same case at later positions.
    #[must_use]
    pub fn starting_at(mut self, start: usize) -> Self {
        let Limits { n_ctx, max_tokens, kv, .. } = self.limits;
        self.limits = Limits::one(n_ctx + start, max_tokens, kv);
        self.start = start;
        self
    }

    /// The same case with the same tokens cut otherwise.
    #[must_use]
    pub fn cut(mut self, steps: &[usize]) -> Self {
        assert_eq!(steps.iter().sum::<usize>(), self.tokens.len());
        self.limits.max_tokens = steps.iter().copied().max().expect("at least one step");
        self.limits.max_outputs = self.limits.max_tokens;
        self.steps = steps.to_vec();
        self
    }

    pub fn cols(&self) -> usize {
        self.plan.graph.columns(pagelm::graph::Entry::Trunk)
    }
}

/// A graph under construction, with the bytes of its weights.
pub struct Parts {
    pub g: Builder,
    pub rng: Rng,
    weights: Vec<Vec<u8>>,
    states: usize,
    /// Rows of each input table.
    pub vocab: usize,
}

impl Parts {
    /// A weight with given values.
    pub fn weight_f32(&mut self, rows: usize, values: &[f32]) -> WeightId {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.push(DType::F32, rows, values.len() / rows, bytes)
    }

    /// A weight of random packed blocks.
    pub fn weight(&mut self, dtype: DType, rows: usize, cols: usize) -> WeightId {
        let bytes = packed(&mut self.rng, dtype, rows, cols);
        self.push(dtype, rows, cols, bytes.unwrap_or_else(|| panic!("no random blocks for {dtype}: add its scales")))
    }

    /// A weight whose rows' blocks are of one byte each but for their scales, which are those of random blocks.
    pub fn weight_filled(&mut self, dtype: DType, rows: usize, cols: usize, byte: impl Fn(usize) -> u8) -> WeightId {
        let mut bytes = packed(&mut self.rng, dtype, rows, cols).expect("random blocks");
        let (row_bytes, scales) = (bytes.len() / rows, scales(dtype).expect("a known type"));
        for (r, row) in bytes.chunks_exact_mut(row_bytes).enumerate() {
            for block in row.chunks_exact_mut(dtype.block_bytes()) {
                for (i, b) in block.iter_mut().enumerate() {
                    if !scales.iter().any(|&at| (at..at + 2).contains(&i)) {
                        *b = byte(r);
                    }
                }
            }
        }
        self.push(dtype, rows, cols, bytes)
    }

    /// Activations of any values: the rows of an f32 table that the tokens pick.
    pub fn input(&mut self, cols: usize) -> ValueId {
        let values = self.rng.values(self.vocab * cols);
        self.input_of(&values)
    }

    /// Activations from a table of `vocab` rows.
    pub fn input_of(&mut self, table: &[f32]) -> ValueId {
        let w = self.weight_f32(self.vocab, table);
        self.g.embed(w, 1.0)
    }

    /// A state that the values of `x` are stored in.
    pub fn stored(&mut self, x: ValueId, cols: usize) -> StateId {
        self.states += 1;
        let s = self.g.state(&format!("state.{}", self.states), cols);
        self.g.kv_store(x, s);
        s
    }

    fn push(&mut self, dtype: DType, rows: usize, cols: usize, bytes: Vec<u8>) -> WeightId {
        let name = format!("w{}", self.weights.len());
        assert_eq!(bytes.len(), rows * dtype.row_bytes(cols).expect("whole blocks"), "{name}");
        self.weights.push(bytes);
        self.g.weight(&name, dtype, rows, cols)
    }
}
