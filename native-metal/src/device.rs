//! Which backend runs.

use clap::ValueEnum;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{self, Adapter, WebGpu};
use pagelm::backend::{self, Backend, KvType};
use pagelm::engine::choose::{BackendName, Choice, HostFacts, Kernels, Wanted, choose, fall_back};
use pagelm::{Error, Result};
use pollster::block_on;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The GPU if there is one that is not software and takes the model, else the CPU.
    Auto,
    /// WebGPU kernels on Metal or Vulkan.
    Gpu,
    Cpu,
    /// Slow and exact: the others are compared with it.
    Reference,
}

/// A backend, and words on what it runs on.
pub struct Device {
    pub backend: Running,
    pub description: String,
    /// Whether weights and cache lie where the programs of this machine lie.
    pub in_main_memory: bool,
    pub settings: Settings,
    /// How the cache is kept, where the backend can keep it so.
    pub kv_type: KvType,
}

/// The GPU's is known as such, because its kernels are chosen when a model is.
pub enum Running {
    Gpu(Box<WebGpu>),
    Cpu(Box<Cpu>),
    Reference(Box<Reference>),
}

impl Running {
    pub fn boxed(self) -> Box<dyn Backend> {
        match self {
            Self::Gpu(gpu) => gpu,
            Self::Cpu(cpu) => cpu,
            Self::Reference(reference) => reference,
        }
    }

    pub fn get(&self) -> &dyn Backend {
        match self {
            Self::Gpu(gpu) => &**gpu,
            Self::Cpu(cpu) => &**cpu,
            Self::Reference(reference) => &**reference,
        }
    }

    pub fn get_mut(&mut self) -> &mut dyn Backend {
        match self {
            Self::Gpu(gpu) => &mut **gpu,
            Self::Cpu(cpu) => &mut **cpu,
            Self::Reference(reference) => &mut **reference,
        }
    }
}

impl Device {
    /// The same device, or the same threads, for another plan.
    pub fn beside(&self) -> Self {
        let backend = match &self.backend {
            Running::Gpu(gpu) => Running::Gpu(Box::new(gpu.beside())),
            Running::Cpu(cpu) => Running::Cpu(Box::new(cpu.beside())),
            Running::Reference(reference) => Running::Reference(Box::new(reference.beside())),
        };
        let Self { description, in_main_memory, settings, kv_type, .. } = self;
        let (description, settings) = (description.clone(), settings.clone());
        Self { backend, description, settings, in_main_memory: *in_main_memory, kv_type: *kv_type }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    F32,
    Q8,
}

impl From<Activations> for backend::Activations {
    fn from(a: Activations) -> Self {
        match a {
            Activations::F32 => Self::F32,
            Activations::Q8 => Self::Q8,
        }
    }
}

impl From<Kind> for Wanted {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Auto => Self::Auto,
            Kind::Gpu => Self::Webgpu,
            Kind::Cpu => Self::Cpu,
            Kind::Reference => Self::Reference,
        }
    }
}

/// What a backend is chosen by and runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub facts: HostFacts,
    /// Of the CPU.
    pub threads: usize,
}

impl Settings {
    /// Makes the backend that is best here.
    pub fn open(mut self) -> Result<Device> {
        let adapter = match self.facts.backend {
            Wanted::Auto => block_on(Adapter::find()).map_err(|e| self.facts.no_adapter = e.detail().to_string()).ok(),
            Wanted::Webgpu => Some(block_on(Adapter::find())?),
            Wanted::Cpu | Wanted::Reference => None,
        };
        self.facts.adapter = adapter.as_ref().map(Adapter::facts);
        let choice = choose(&self.facts)?;
        if self.facts.backend == Wanted::Auto {
            tracing::info!("the {} backend runs: {}", choice.backend.name(), choice.reason);
        }
        let gpu = match adapter.filter(|_| choice.backend == BackendName::Webgpu) {
            Some(adapter) => match on_gpu(&adapter, &choice, &self) {
                Err(e) => return self.fall_back(&e).ok_or(e),
                gpu => Some(gpu?),
            },
            None => None,
        };
        Ok(gpu.unwrap_or_else(|| in_main_memory(choice, self)))
    }

    /// What runs instead of a GPU that refused, if anything does.
    pub fn fall_back(&self, refusal: &Error) -> Option<Device> {
        let choice = fall_back(&self.facts, refusal)?;
        tracing::warn!("the GPU refuses, the {} backend runs instead: {}", choice.backend.name(), choice.reason);
        Some(in_main_memory(choice, self.clone()))
    }
}

fn on_gpu(adapter: &Adapter, choice: &Choice, settings: &Settings) -> Result<Device> {
    let software = choice.kernels.map(|k| k == Kernels::Software);
    let options = webgpu::Options { activations: choice.activations, software, ..webgpu::Options::default() };
    let gpu = block_on(WebGpu::on(adapter, options))?;
    let a = gpu.adapter();
    let software = if a.software { ", software" } else { "" };
    Ok(Device {
        description: format!("{} ({}, {}{software})", a.name, a.backend, a.driver),
        in_main_memory: a.software,
        backend: Running::Gpu(Box::new(gpu)),
        settings: settings.clone(),
        kv_type: choice.kv_type,
    })
}

fn in_main_memory(choice: Choice, settings: Settings) -> Device {
    let (backend, description) = match choice.backend {
        BackendName::Reference => {
            let reference = Reference::with_activations(choice.activations);
            (Running::Reference(Box::new(reference)), "one thread, f64".to_string())
        }
        _ => {
            let cpu = Cpu::new(settings.threads).activations(choice.activations);
            let description = format!("{} threads", cpu.threads());
            (Running::Cpu(Box::new(cpu)), description)
        }
    };
    Device { backend, description, in_main_memory: true, settings, kv_type: choice.kv_type }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}
