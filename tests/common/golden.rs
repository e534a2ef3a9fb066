//! The fixtures of `golden/`: tiny models with reference numbers.

use pagelm::Result;
use pagelm::backend::Backend;
use pagelm::engine::{Model, Options, Session};
use pagelm::gguf::Gguf;
use serde::Deserialize;

use super::fixtures;

#[derive(Deserialize)]
pub struct Golden {
    pub gguf: String,
    pub prompts: Vec<Prompt>,
    /// Of models with a block for multi-token prediction.
    #[serde(default)]
    pub mtp: Vec<Mtp>,
}

#[derive(Deserialize)]
pub struct Prompt {
    pub ids: Vec<u32>,
    pub logits_last: Array,
    pub logits_all: Option<Array>,
    pub greedy: Option<Greedy>,
    pub hidden: Option<Hidden>,
}

/// Row j is made from the trunk's row j and `next_ids[j]`.
#[derive(Deserialize)]
pub struct Mtp {
    pub ids: Vec<u32>,
    pub next_ids: Vec<u32>,
    pub trunk_hidden: Array,
    pub fused: Array,
    pub logits_all: Array,
    pub argmax: Vec<u32>,
}

/// Row-major.
#[derive(Deserialize)]
pub struct Array {
    pub data: Vec<f32>,
}

#[derive(Deserialize)]
pub struct Greedy {
    pub tokens: Vec<u32>,
}

#[derive(Deserialize)]
pub struct Hidden {
    pub embd: Array,
    pub layers: Vec<Layer>,
    pub norm: Array,
}

#[derive(Deserialize)]
pub struct Layer {
    pub attn_out: Array,
    pub mlp_out: Array,
    pub out: Array,
}

impl Hidden {
    /// Every tensor with the name of its value in our graphs.
    pub fn named(&self) -> Vec<(String, &Array)> {
        let mut all = vec![("embd".to_string(), &self.embd), ("norm".to_string(), &self.norm)];
        for (i, l) in self.layers.iter().enumerate() {
            for (name, array) in [("attn_out", &l.attn_out), ("mlp_out", &l.mlp_out), ("out", &l.out)] {
                all.push((format!("blk.{i}.{name}"), array));
            }
        }
        all
    }
}

/// The numbers and the model file of a fixture.
pub fn load(name: &str) -> (Golden, Vec<u8>) {
    let golden: Golden = serde_json::from_slice(&fixtures::bytes(&format!("golden/{name}.json"))).unwrap();
    let file = fixtures::bytes(&format!("golden/{}", golden.gguf));
    (golden, file)
}

/// Opens a session on a whole file.
pub fn open(file: &[u8], backend: Box<dyn Backend>, options: Options) -> Result<Session> {
    let gguf = Gguf::parse(file)?;
    Model::new(&gguf, &|d| backend.supports(d), &options)?.load(&gguf, &file, backend)
}

/// The largest difference between two rows of the same length; anything that is not finite is infinitely far off.
pub fn max_diff(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let off = |(a, b): (&f32, &f32)| if a.is_finite() { (a - b).abs() } else { f32::INFINITY };
    got.iter().zip(want).map(off).fold(0.0, f32::max)
}

/// The largest value, of equal ones the first.
pub fn argmax(row: &[f32]) -> u32 {
    let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
    best.expect("a row has columns") as u32
}
