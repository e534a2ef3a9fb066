//! From flags to an open model.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use pagelm::Result;
use pagelm::backend::KvType;
use pagelm::engine::choose::HostFacts;
use pagelm::engine::{KV_TYPES, Model, Options, Session};
use pagelm::gguf::Gguf;

use crate::device::{self, Device, Kind, Running};
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
    /// Threads of the cpu backend. Default: one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Precision of the activations in products with quantised weights: f32 is exact, q8 (int8) is several times faster on
    /// the CPU and, for prompts, on GPUs with int8 dot products. Default: q8 to run, f32 to compare.
    #[arg(long, value_enum)]
    activations: Option<device::Activations>,
    /// Context length in tokens. Default: what the model was trained for, at most 4096.
    #[arg(long, value_name = "N")]
    pub ctx: Option<usize>,
    /// The most tokens of one prefill step. Default: 512 on a GPU, else 128.
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Type of the KV cache: f32, f16 or q8_0. Default: f16 to run, f32 to compare. The reference backend uses f32.
    #[arg(long, value_name = "TYPE")]
    kv_type: Option<KvType>,
    /// Whether to measure which GPU kernels are fastest (about a second, once; kept in pagelm/tuning.json of the cache
    /// folder). Default: auto to run, off to compare.
    #[arg(long, value_enum)]
    tune: Option<Tune>,
    /// Ignore unknown metadata keys and tensors instead of refusing the file. The answers may be wrong.
    #[arg(long)]
    pub allow_unknown: bool,
    /// Memory limit for the model, in MiB. Default: what the system reports as available; none for a GPU with its own
    /// memory.
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
}

impl DeviceArgs {
    /// Threads of the cpu backend.
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(device::cores, usize::from)
    }

    pub fn device(&self, purpose: Purpose) -> Result<Device> {
        let facts = HostFacts {
            backend: self.backend.into(),
            exact: purpose == Purpose::Compare,
            activations: self.activations.map(Into::into),
            kv_type: self.kv_type,
            ..HostFacts::default()
        };
        device::Settings { facts, threads: self.threads() }.open()
    }

    pub fn tune(&self, purpose: Purpose) -> Tune {
        self.tune.unwrap_or(if purpose == Purpose::Run { Tune::Auto } else { Tune::Off })
    }

    /// The same flags for the CPU with nothing rounded: activations and cache in f32.
    pub fn exact(&self) -> Self {
        let (activations, kv_type) = (Some(device::Activations::F32), Some(KvType::F32));
        Self { backend: Kind::Cpu, activations, kv_type, ..self.clone() }
    }

    /// The options that flags give, whatever the device.
    pub fn options(&self) -> Options {
        Options { n_ctx: self.ctx, allow_unknown: self.allow_unknown, ..Options::default() }
    }

    /// The types of the cache that may be tried: the one asked for, or else the usual ones.
    pub fn kv_types(&self, device: &Device) -> Vec<KvType> {
        let all = self.kv_type.map_or_else(|| KV_TYPES.to_vec(), |one| vec![one]);
        all.into_iter().map(|t| device.backend.get().kv_type(t)).collect()
    }

    /// The options on this device: with the memory that a model may take there, and with how the cache is kept.
    pub fn options_on(&self, device: &Device, options: Options) -> Options {
        let free = || if device.in_main_memory { machine::available_memory() } else { None };
        let memory = self.memory.map(|mib| mib.saturating_mul(1 << 20)).or_else(free);
        let backend = device.backend.get();
        let max_tokens = self.batch.unwrap_or_else(|| backend.max_tokens());
        Options { memory, max_tokens, kv_type: backend.kv_type(device.kv_type), ..options }
    }
}

/// Flags of commands that run one model.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArgs {
    /// A GGUF file, the folder of a Hugging Face checkpoint (config.json, safetensors, tokenizer.json), or what `pull` takes:
    /// hf:OWNER/REPO/FILE.gguf, hf:OWNER/REPO:QUANTISATION, an address.
    #[arg(long, value_name = "PATH")]
    pub model: PathBuf,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// A model that is loaded.
pub struct Opened {
    pub gguf: Rc<Gguf>,
    pub session: Session,
    /// For another model on what the backend runs on.
    pub beside: Device,
    /// What the backend runs on.
    pub device: String,
    pub load_ms: f64,
    /// Bytes of the cache for one position.
    pub kv_bytes_per_token: u64,
}

/// Loads a file on the backend that the flags ask for, or on the one to fall back to where a GPU refuses it.
pub fn open(path: &Path, args: &DeviceArgs, options: Options, purpose: Purpose) -> Result<Opened> {
    let file = source::open(path)?;
    let device = args.device(purpose)?;
    let settings = device.settings.clone();
    let load = |device| load(&file, device, args, options, purpose).map_err(|e| e.at(path.display()));
    let opened = load(device).or_else(|e| settings.fall_back(&e).map_or(Err(e), load))?;
    let name = opened.session.backend().name();
    tracing::info!("{} on {name} ({}), loaded in {:.0} ms", path.display(), opened.device, opened.load_ms);
    Ok(opened)
}

fn load(
    file: &source::Opened,
    mut device: Device,
    args: &DeviceArgs,
    options: Options,
    purpose: Purpose,
) -> Result<Opened> {
    let start = Instant::now();
    let options = args.options_on(&device, options);
    let model = Model::new(&file.gguf, &|d| device.backend.get().supports(d), &options)?;
    if let Running::Gpu(gpu) = &mut device.backend {
        tuning::apply(gpu, &model, args.tune(purpose))?;
    }
    let kv_bytes_per_token = model.kv_bytes_per_token();
    let beside = device.beside();
    let session = model.load(&file.gguf, &*file.source, device.backend.boxed())?;
    Ok(Opened {
        gguf: file.gguf.clone(),
        session,
        beside,
        device: device.description,
        load_ms: start.elapsed().as_secs_f64() * 1e3,
        kv_bytes_per_token,
    })
}
