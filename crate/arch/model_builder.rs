//! What a description builds with: the file's tensors by name, and the graph under construction.

use std::collections::HashMap;

use super::keys::Keys;
use super::known;
use super::pooling::Pooling;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Gguf, TensorInfo};
use crate::graph::{Builder, Graph, ValueId, WeightId};

/// What a caller wants of a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The block for multi-token prediction too, where there is one.
    pub mtp: bool,
    /// The last hidden states instead of logits: the head is left out, and with it the block for multi-token prediction.
    pub embeddings: bool,
    /// The trunk once more from rows that steps give, for images.
    pub images: bool,
    /// Ignores unknown keys and tensors instead of refusing the file.
    pub allow_unknown: bool,
}

/// Takes the weights of a graph from a file. A tensor that is missing or misshapen is recorded and replaced by
/// one of the right shape, so that one error lists everything that is wrong with a file.
pub struct ModelBuilder<'a> {
    /// The header of the file.
    pub gguf: &'a Gguf,
    /// Its metadata under the name of the architecture; what was read is remembered.
    pub keys: Keys<'a>,
    /// Whether the block for multi-token prediction is wanted.
    pub mtp: bool,
    /// Whether the last hidden states are wanted instead of logits.
    pub embeddings: bool,
    /// How the file says that embeddings are made of those.
    pub pooling: Option<Pooling>,
    /// Whether the trunk is wanted from given rows too.
    pub images: bool,
    /// The graph under construction.
    pub g: Builder,
    tensors: HashMap<&'a str, &'a TensorInfo>,
    taken: HashMap<&'a str, (WeightId, Use)>,
    ignored: Vec<String>,
    missing: Vec<String>,
    misshapen: Vec<String>,
}

/// Norms and biases are read as F32 whatever the backend; matrices only in types for which it has a kernel.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Matrix,
    Vector,
}

impl<'a> ModelBuilder<'a> {
    /// Over a header.
    pub fn new(gguf: &'a Gguf, wanted: Wanted) -> Result<Self> {
        Ok(Self {
            gguf,
            keys: Keys::new(&gguf.meta)?,
            mtp: wanted.mtp && !wanted.embeddings,
            embeddings: wanted.embeddings,
            pooling: Pooling::from_gguf(&gguf.meta)?,
            images: wanted.images,
            g: Builder::new(),
            tensors: gguf.tensors.iter().map(|t| (t.name.as_str(), t)).collect(),
            taken: HashMap::new(),
            ignored: Vec::new(),
            missing: Vec::new(),
            misshapen: Vec::new(),
        })
    }

    /// Whether the file has a tensor of this name. Asking does not take it.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A matrix `[in, out]` in GGUF's order: `out` rows of `in` values.
    pub fn matrix(&mut self, name: &str, d_in: usize, d_out: usize) -> WeightId {
        self.take(name, &[d_in, d_out], Use::Matrix)
    }

    /// A vector, such as a norm or a bias.
    pub fn vector(&mut self, name: &str, len: usize) -> WeightId {
        self.take(name, &[len], Use::Vector)
    }

    /// The matrices of `n` experts, `[in, out, n]`, one after another.
    pub fn experts(&mut self, name: &str, d_in: usize, d_out: usize, n: usize) -> WeightId {
        self.take(name, &[d_in, d_out, n], Use::Matrix)
    }

    /// Vectors that are read like one: `n` of them, each `len` long.
    pub fn vectors(&mut self, name: &str, len: usize, n: usize) -> WeightId {
        self.take(name, &[len, n], Use::Vector)
    }

    /// A matrix of one row, which some converters write as a vector.
    pub fn row_or_vector(&mut self, name: &str, len: usize) -> WeightId {
        let as_vector = self.tensors.get(name).is_some_and(|t| t.dims.len() == 1);
        if as_vector { self.take(name, &[len], Use::Matrix) } else { self.take(name, &[len, 1], Use::Matrix) }
    }

    /// Tensors whose names start with this are not read on purpose.
    pub fn ignore(&mut self, prefix: String) {
        self.ignored.push(prefix);
    }

    /// How many values a row of a tensor has, where the file has it.
    pub fn row_len(&self, name: &str) -> Option<u64> {
        self.tensors.get(name)?.dims.first().copied()
    }

    /// How many rows a matrix has, where the file has it.
    pub fn rows(&self, name: &str) -> Option<usize> {
        usize::try_from(*self.tensors.get(name)?.dims.get(1)?).ok()
    }

    /// A vector that some files have and others do not.
    pub fn opt_vector(&mut self, name: &str, len: usize) -> Option<WeightId> {
        self.has(name).then(|| self.vector(name, len))
    }

    /// A convolution over squares of three channels that do not overlap, `[side, side, 3, out]`: a matrix over their pixels.
    pub fn patches(&mut self, name: &str, side: usize, d_out: usize) -> WeightId {
        self.take_as(name, &[side, side, 3, d_out], (d_out, 3 * side * side), Use::Matrix)
    }

    fn take(&mut self, name: &str, dims: &[usize], usage: Use) -> WeightId {
        self.take_as(name, dims, (dims[1..].iter().product(), dims[0]), usage)
    }

    /// The same, as a matrix of so many rows and columns.
    fn take_as(&mut self, name: &str, dims: &[usize], (rows, cols): (usize, usize), usage: Use) -> WeightId {
        if let Some((w, _)) = self.taken.get(name) {
            return *w;
        }
        let Some(&t) = self.tensors.get(name) else {
            self.missing.push(format!("`{name}`"));
            return self.g.weight(name, DType::F32, rows, cols);
        };
        if !t.dims.iter().copied().eq(dims.iter().map(|&d| d as u64)) {
            self.misshapen.push(format!("`{name}` must be {dims:?}, is {:?}", t.dims));
            return self.g.weight(name, DType::F32, rows, cols);
        }
        if t.dtype.row_bytes(cols).is_none() {
            self.misshapen.push(format!("`{name}` must have rows of whole blocks, has {cols} values of {}", t.dtype));
            return self.g.weight(name, DType::F32, rows, cols);
        }
        let w = self.g.weight(name, t.dtype, rows, cols);
        self.taken.insert(&t.name, (w, usage));
        w
    }

    /// The finished graph; `check` says whether it can be used.
    pub fn finish(&mut self, output: ValueId) -> Graph {
        std::mem::take(&mut self.g).finish(output)
    }

    /// Refuses a file that does not fit its description, with everything that is wrong with it. With `allow_unknown`,
    /// keys and tensors that were not read are fine.
    pub fn check(&self, supports: &dyn Fn(DType) -> bool, allow_unknown: bool) -> Result<()> {
        let unsupported = |(name, (_, usage)): (&&str, &(WeightId, Use))| {
            let dtype = self.tensors[name].dtype;
            let ok = match usage {
                Use::Matrix => supports(dtype),
                Use::Vector => dtype == DType::F32,
            };
            (!ok).then(|| format!("`{name}` is {dtype}"))
        };
        let mut types: Vec<_> = self.taken.iter().filter_map(unsupported).collect();
        types.sort();
        let (tensors, keys) =
            if allow_unknown { Default::default() } else { (self.unread_tensors(), self.keys.refused()) };
        let unknown = [keys, tensors].concat();
        let faults = [
            (ErrorKind::MissingTensor, "missing tensors:", &self.missing, ""),
            (ErrorKind::BadTensor, "tensor shapes that contradict the configuration:", &self.misshapen, ""),
            (ErrorKind::UnsupportedType, "unsupported tensor types:", &types, "; use another quantisation"),
            (
                ErrorKind::UnknownContent,
                "unknown content that may change the results:",
                &unknown,
                "; allow unknown content to run the file anyway",
            ),
        ];
        let faults: Vec<_> = faults.into_iter().filter(|(_, _, list, _)| !list.is_empty()).collect();
        let Some((kind, ..)) = faults.first() else { return Ok(()) };
        let said = faults.iter().map(|(_, what, list, remedy)| format!("{what} {}{remedy}", listed(list)));
        Err(Error::new(*kind, said.collect::<Vec<_>>().join("; ")))
    }

    /// Tensors that were not read although the model may use them.
    fn unread_tensors(&self) -> Vec<String> {
        let arch = self.keys.arch();
        (self.gguf.tensors.iter().map(|t| t.name.as_str()))
            .filter(|name| !self.taken.contains_key(name) && !known::is_for_other_senses(arch, name))
            .filter(|name| !self.ignored.iter().any(|prefix| name.starts_with(prefix)))
            .map(|name| format!("tensor `{}`", known::clipped(name)))
            .collect()
    }
}

/// The first of a list, and how many there are beside.
fn listed(list: &[String]) -> String {
    const SHOWN: usize = 32;
    let first = list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if list.len() > SHOWN { format!("{first} and {} more", list.len() - SHOWN) } else { first }
}
