//! Which backend runs.

use std::ops::{Deref, DerefMut};

use clap::ValueEnum;
use pagelm::Result;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{self, WebGpu};
use pagelm::backend::{self, Backend};
use pollster::block_on;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The GPU if there is one that is not software, else the CPU.
    Auto,
    /// WebGPU kernels on Metal or Vulkan.
    Gpu,
    Cpu,
    /// Slow and exact: what the others are compared with.
    Reference,
}

/// A backend, and words on what it runs on.
pub struct Device {
    pub backend: Running,
    pub description: String,
    /// Whether weights and cache lie where the programs of this machine lie.
    pub in_main_memory: bool,
}

/// The GPU's is known as such, because its kernels are chosen when a model is.
pub enum Running {
    Gpu(Box<WebGpu>),
    Other(Box<dyn Backend>),
}

impl Running {
    pub fn boxed(self) -> Box<dyn Backend> {
        match self {
            Self::Gpu(gpu) => gpu,
            Self::Other(backend) => backend,
        }
    }
}

impl Deref for Running {
    type Target = dyn Backend;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Gpu(gpu) => &**gpu,
            Self::Other(backend) => &**backend,
        }
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Gpu(gpu) => &mut **gpu,
            Self::Other(backend) => &mut **backend,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    F32,
    Q8,
}

/// What a backend runs with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of the CPU.
    pub threads: usize,
    pub activations: Activations,
}

impl From<Activations> for backend::Activations {
    fn from(a: Activations) -> Self {
        match a {
            Activations::F32 => Self::F32,
            Activations::Q8 => Self::Q8,
        }
    }
}

/// Makes the backend.
pub fn open(kind: Kind, settings: Settings) -> Result<Device> {
    let activations = settings.activations.into();
    let gpu = || block_on(WebGpu::new(webgpu::Options { activations, ..webgpu::Options::default() }));
    match kind {
        Kind::Auto => match gpu() {
            Ok(gpu) if !gpu.adapter().software => Ok(on_gpu(gpu)),
            Ok(gpu) => {
                tracing::info!("the GPU {} is software: the cpu backend is faster", gpu.adapter().name);
                Ok(on_cpu(settings))
            }
            Err(e) => {
                tracing::info!("{e}");
                Ok(on_cpu(settings))
            }
        },
        Kind::Gpu => Ok(on_gpu(gpu()?)),
        Kind::Cpu => Ok(on_cpu(settings)),
        Kind::Reference => Ok(Device {
            backend: Running::Other(Box::new(Reference::with_activations(activations))),
            description: "one thread, f64".to_string(),
            in_main_memory: true,
        }),
    }
}

fn on_gpu(gpu: WebGpu) -> Device {
    let a = gpu.adapter();
    let software = if a.software { ", software" } else { "" };
    let description = format!("{} ({}, {}{software})", a.name, a.backend, a.driver);
    let in_main_memory = a.software;
    Device { backend: Running::Gpu(Box::new(gpu)), description, in_main_memory }
}

fn on_cpu(settings: Settings) -> Device {
    let cpu = Cpu::new(settings.threads).activations(settings.activations.into());
    let description = format!("{} threads", cpu.threads());
    Device { backend: Running::Other(Box::new(cpu)), description, in_main_memory: true }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}
