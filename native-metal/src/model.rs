//! From flags to an open model.

use std::path::{Path, PathBuf};
use std::time::Instant;

use pagelm::Result;
use pagelm::backend::KvType;
use pagelm::engine::{Model, Options, Session};
use pagelm::gguf::Gguf;

use crate::device::{self, Kind, Running};
use crate::tuning::{self, Tune};
use crate::{machine, source};

/// What a model is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Run,
    /// To compare numbers with others.
    Compare,
}

/// Flags of all commands that run something.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceArgs {
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: Kind,
    /// Threads of the cpu backend; one per core where not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// In which numbers quantised weights are multiplied: f32 is exact, q8 is several times faster on the CPU and, in steps
    /// of many tokens, on GPUs that multiply bytes. Where not given, q8 to run and f32 to compare.
    #[arg(long, value_enum)]
    activations: Option<device::Activations>,
    /// Positions of the cache; what the model was trained for, at most 4096, where not given.
    #[arg(long, value_name = "N")]
    pub ctx: Option<usize>,
    /// Tokens of one prefill step, at most; where not given, 512 on a GPU and else 128.
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// How the GPU keeps keys and values: f32, f16 or q8_0; where not given, f16 to run and f32 to compare. The other
    /// backends keep f32.
    #[arg(long, value_name = "TYPE")]
    kv_type: Option<KvType>,
    /// Whether the GPU's kernels are chosen by measuring them, for a second, and kept for the next time (in
    /// pagelm/tuning.json of the cache folder). Where not given, auto to run and off to compare.
    #[arg(long, value_enum)]
    tune: Option<Tune>,
    /// Runs a file though it holds metadata keys or tensors that are not known here, as if they were not there. The answers
    /// may be wrong.
    #[arg(long)]
    pub allow_unknown: bool,
    /// What the model may take of memory, in MiB; what the system says is free where not given. Of a GPU with memory of
    /// its own nothing is known.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
}

impl DeviceArgs {
    /// Threads of the cpu backend.
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(device::cores, usize::from)
    }

    pub fn device(&self, purpose: Purpose) -> Result<device::Device> {
        let fast = purpose == Purpose::Run && self.backend != Kind::Reference;
        let fallback = if fast { device::Activations::Q8 } else { device::Activations::F32 };
        let activations = self.activations.unwrap_or(fallback);
        device::open(self.backend, device::Settings { threads: self.threads(), activations })
    }

    pub fn tune(&self, purpose: Purpose) -> Tune {
        self.tune.unwrap_or(if purpose == Purpose::Run { Tune::Auto } else { Tune::Off })
    }

    /// The options with the memory that a model may take on this device.
    pub fn options_on(&self, device: &device::Device) -> Options {
        self.within(device, self.options(Purpose::Run))
    }

    fn within(&self, device: &device::Device, options: Options) -> Options {
        let free = || if device.in_main_memory { machine::available_memory() } else { None };
        let memory = self.memory.map(|mib| mib.saturating_mul(1 << 20)).or_else(free);
        let max_tokens = self.batch.unwrap_or_else(|| device.backend.max_tokens());
        Options { memory, max_tokens, kv_type: device.backend.kv_type(options.kv_type), ..options }
    }

    pub fn options(&self, purpose: Purpose) -> Options {
        let usual = if purpose == Purpose::Run { KvType::F16 } else { KvType::F32 };
        let kv_type = self.kv_type.unwrap_or(usual);
        let max_tokens = self.batch.unwrap_or(Options::DEFAULT.max_tokens);
        Options { n_ctx: self.ctx, max_tokens, kv_type, allow_unknown: self.allow_unknown, ..Options::default() }
    }
}

/// Flags of commands that run one model.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArgs {
    /// A GGUF file, or the folder of a Hugging Face checkpoint (config.json, safetensors, tokenizer.json).
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A model that is loaded.
pub struct Opened {
    pub gguf: Gguf,
    pub session: Session,
    /// What the backend runs on.
    pub device: String,
    pub load_ms: f64,
    /// Bytes of weights that one decode step reads.
    pub weight_bytes_per_token: usize,
    /// Bytes of the cache for one position.
    pub kv_bytes_per_token: u64,
}

/// Loads a file on the backend that the flags ask for.
pub fn open(path: &Path, args: &DeviceArgs, options: Options, purpose: Purpose) -> Result<Opened> {
    let start = Instant::now();
    let named = |e: pagelm::Error| e.at(path.display());
    let source::Opened { gguf, source, .. } = source::open(path)?;
    let mut device = args.device(purpose)?;
    let options = args.within(&device, options);
    let model = Model::new(&gguf, &|d| device.backend.supports(d), &options).map_err(named)?;
    if let Running::Gpu(gpu) = &mut device.backend {
        tuning::apply(gpu, &model, args.tune(purpose))?;
    }
    let weight_bytes_per_token = model.plan.weight_bytes_per_token();
    let kv_bytes_per_token = model.row_bytes();
    let session = model.load(&gguf, &*source, device.backend.boxed()).map_err(named)?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let (name, on) = (session.backend().name(), &device.description);
    tracing::info!("{} on {name} ({on}), loaded in {load_ms:.0} ms", path.display());
    Ok(Opened { gguf, session, device: device.description, load_ms, weight_bytes_per_token, kv_bytes_per_token })
}
