//! Checkpoints of Hugging Face, read as if they were a GGUF file: `config.json` becomes metadata, and the tensors of
//! safetensors files get GGUF names. Their values are converted one tensor at a time, when its bytes are requested; most
//! are passed on as they are.

mod config;
mod experts;
mod json;
mod names;
mod rope;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};

use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Gguf, Source, TensorInfo};
use config::Config;
use experts::Piece;
use json::Object;

/// A checkpoint whose files lie in memory as `B`.
pub struct Checkpoint<B> {
    /// A header as a converter would have written it, without the tokenizer. Its offsets are of no file.
    pub gguf: Gguf,
    shards: Vec<B>,
    places: BTreeMap<String, Place>,
}

/// Where the bytes of a tensor are, and how they are converted.
enum Place {
    Shard {
        shard: usize,
        bytes: Range<usize>,
        change: Change,
    },
    Made(Vec<u8>),
    /// One after another.
    Pieces(Vec<Piece>),
}

#[derive(Clone, Copy)]
enum Change {
    None,
    /// To F32, and 1 added where `plus_one`.
    Widen {
        from: DType,
        plus_one: bool,
    },
    /// Rows of each head: first half and second half become even and odd.
    Interleave {
        d_head: usize,
        row: usize,
    },
}

/// The files that `model.safetensors.index.json` names, in order.
pub fn shards(index: &str) -> Result<Vec<String>> {
    const FILE: &str = "model.safetensors.index.json";
    let value = json::parse(FILE, index)?;
    let index = Object { file: FILE, value: &value };
    let Some(map) = index.object("weight_map")?.and_then(|o| o.value.as_object()) else {
        return Err(Error::new(ErrorKind::MissingKey, "is not in the file").at(index.at("weight_map")));
    };
    let mut files = BTreeSet::new();
    for file in map.values() {
        match file.as_str() {
            Some(name) if name.ends_with(".safetensors") && !name.contains(['/', '\\']) => {
                files.insert(name.to_string())
            }
            _ => {
                let detail = format!("{file} must be the name of a safetensors file in the same folder");
                return Err(Error::new(ErrorKind::BadCheckpoint, detail).at(index.at("weight_map")));
            }
        };
    }
    Ok(files.into_iter().collect())
}

impl<B: AsRef<[u8]>> Checkpoint<B> {
    /// `config` is the text of `config.json`; each shard is a safetensors file, with its name for errors.
    pub fn new(config: &str, shards: Vec<(String, B)>) -> Result<Self> {
        let value = json::parse("config.json", config)?;
        let (config, meta) = config::read(Object { file: "config.json", value: &value })?;
        let mut tensors =
            Tensors { config, infos: Vec::new(), places: BTreeMap::new(), experts: experts::All::default() };
        for (i, (name, bytes)) in shards.iter().enumerate() {
            tensors.read(i, bytes.as_ref()).map_err(|e| e.at(name))?;
        }
        let Tensors { config, mut infos, mut places, experts } = tensors;
        for (own, dtype, dims, pieces) in experts.finish(config.n_expert)? {
            infos.push((own.clone(), dtype, dims));
            places.insert(own, Place::Pieces(pieces));
        }
        if config.tied == Some(false) && !places.contains_key("output.weight") {
            bail!(
                MissingTensor,
                "the checkpoint lacks `lm_head.weight`, and its configuration says that it is not tied"
            );
        }
        if let Some(freqs) = &config.rope_freqs {
            infos.push(("rope_freqs.weight".to_string(), DType::F32, vec![freqs.len() as u64]));
            let bytes = freqs.iter().flat_map(|f| f.to_le_bytes()).collect();
            places.insert("rope_freqs.weight".to_string(), Place::Made(bytes));
        }
        let gguf = Gguf::of_parts(meta, infos)?;
        Ok(Self { gguf, shards: shards.into_iter().map(|(_, bytes)| bytes).collect(), places })
    }
}

impl<B: AsRef<[u8]>> Source for Checkpoint<B> {
    fn tensor(&self, info: &TensorInfo) -> Result<Cow<'_, [u8]>> {
        let Some(place) = self.places.get(&info.name) else {
            return Err(Error::new(ErrorKind::MissingTensor, "is not in the checkpoint").at(&info.name));
        };
        Ok(match place {
            Place::Made(bytes) => bytes.into(),
            Place::Pieces(pieces) => {
                pieces.iter().flat_map(|p| &self.shards[p.shard].as_ref()[p.bytes.clone()]).copied().collect()
            }
            Place::Shard { shard, bytes, change } => change.apply(&self.shards[*shard].as_ref()[bytes.clone()]),
        })
    }
}

/// The tensors of the shards so far.
struct Tensors {
    config: Config,
    infos: Vec<(String, DType, Vec<u64>)>,
    places: BTreeMap<String, Place>,
    experts: experts::All,
}

impl Tensors {
    fn read(&mut self, shard: usize, file: &[u8]) -> Result<()> {
        let (header, metadata) = SafeTensors::read_metadata(file).map_err(|e| broken(&e, file.len()))?;
        for name in metadata.offset_keys() {
            self.add(shard, 8 + header, &metadata, &name).map_err(|e| e.at(format!("tensor `{name}`")))?;
        }
        Ok(())
    }

    fn add(&mut self, shard: usize, data: usize, metadata: &Metadata, name: &str) -> Result<()> {
        let info = metadata.info(name).expect("a name of this file");
        // The offsets were checked against the length of the file.
        let bytes = data + info.data_offsets.0..data + info.data_offsets.1;
        let dims: Vec<u64> = info.shape.iter().rev().map(|d| *d as u64).collect();
        if let Some(expert) = names::expert(name).filter(|_| self.config.n_expert > 0) {
            return self.experts.add(expert, dtype(info.dtype)?, dims, Piece { shard, bytes });
        }
        let Some(own) = names::gguf_name(name, self.config.family.norms) else {
            if names::is_derived(name) {
                return Ok(());
            }
            let arch = self.config.family.arch;
            bail!(BadTensor, "`{arch}` has no tensor of this name; is it a plain checkpoint of a text model?");
        };
        // A tied checkpoint may hold the embedding a second time.
        if own == "output.weight" && self.config.tied == Some(true) {
            return Ok(());
        }
        let stored = dtype(info.dtype)?;
        if !matches!(dims.len(), 1 | 2) {
            bail!(BadTensor, "has the shape {:?}; expected 1 or 2 dims", info.shape);
        }
        // Routers and the gates of shared experts stay in F32 as vectors do.
        let widened = dims.len() == 1 || own.contains(".ffn_gate_inp");
        let rotated = [".attn_q.weight", ".attn_k.weight", ".attn_q.bias", ".attn_k.bias"];
        let change = if self.config.family.permutes && rotated.iter().any(|s| own.ends_with(s)) {
            let (rows, d_head) = (info.shape[0], self.config.d_head);
            if d_head == 0 || d_head % 2 != 0 || !rows.is_multiple_of(d_head) {
                bail!(BadTensor, "the number of rows must be a multiple of an even head length ({d_head}), is {rows}");
            }
            if dims.len() == 1 {
                bail!(BadTensor, "this architecture has no biases here");
            }
            let row = (dims[0] as usize).saturating_mul(stored.block_bytes());
            Change::Interleave { d_head, row }
        } else if widened {
            let plus_one = self.config.family.gemma && own.ends_with("norm.weight");
            if stored == DType::F32 && !plus_one { Change::None } else { Change::Widen { from: stored, plus_one } }
        } else {
            Change::None
        };
        let dtype = if widened { DType::F32 } else { stored };
        if self.places.insert(own.clone(), Place::Shard { shard, bytes, change }).is_some() {
            bail!(BadCheckpoint, "is in the checkpoint more than once");
        }
        self.infos.push((own, dtype, dims));
        Ok(())
    }
}

impl Change {
    fn apply(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Change::None => bytes.into(),
            Change::Widen { from, plus_one } => {
                let wide = |b: &[u8]| {
                    let v = match from {
                        DType::F16 => f16::from_le_bytes([b[0], b[1]]).to_f32(),
                        DType::BF16 => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
                        _ => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
                    };
                    (if plus_one { v + 1.0 } else { v }).to_le_bytes()
                };
                bytes.chunks_exact(from.block_bytes()).flat_map(wide).collect()
            }
            Change::Interleave { d_head, row } => {
                let mut out = Vec::with_capacity(bytes.len());
                for head in bytes.chunks_exact(d_head * row) {
                    let (first, second) = head.split_at(d_head / 2 * row);
                    for (a, b) in first.chunks_exact(row).zip(second.chunks_exact(row)) {
                        out.extend_from_slice(a);
                        out.extend_from_slice(b);
                    }
                }
                out.into()
            }
        }
    }
}

fn dtype(stored: Dtype) -> Result<DType> {
    Ok(match stored {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => bail!(
            UnsupportedType,
            "unsupported type {other:?}; expected F32, F16 or BF16, or use a quantised GGUF file"
        ),
    })
}

fn broken(e: &safetensors::SafeTensorError, len: usize) -> Error {
    use safetensors::SafeTensorError as E;
    let detail = match e {
        E::HeaderTooSmall | E::InvalidHeaderLength | E::MetadataIncompleteBuffer => {
            format!("the file has {len} bytes, which its header contradicts; is the download complete?")
        }
        E::InvalidOffset(name) => format!("the offsets of tensor `{name}` leave a gap, overlap or run backwards"),
        E::TensorInvalidInfo => "a tensor has another length than its shape and type say".to_string(),
        other => format!("is not a valid safetensors file: {other}"),
    };
    Error::new(ErrorKind::BadCheckpoint, detail)
}
