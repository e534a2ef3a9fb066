//! The adapter, the device, and their errors.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::tuning::{Gemm, Tuning};
use crate::backend::{Activations, AdapterFacts, FINE_POSITIONS};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// How to ask for a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Asks only for the limits that every WebGPU device has.
    pub spec_limits: bool,
    /// Splits weights over this many bytes, as if the device could bind no more.
    pub max_binding: Option<u64>,
    /// Uses the kernels for software adapters (if false, those for hardware) whatever the adapter is.
    pub software: Option<bool>,
    /// Splits long steps for a GPU of this speed (work units per second, see `run::submit_budget`) instead of the measured
    /// one.
    pub rate: Option<u64>,
    /// Precision of the activations in long steps, if the adapter has int8 dot products.
    pub activations: Activations,
    /// So many first positions stay in f32, in place of [`FINE_POSITIONS`].
    pub fine_positions: Option<usize>,
}

/// Facts about the adapter, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterInfo {
    /// As the driver reports it; browsers may hide it.
    pub name: String,
    /// Name and version; empty in browsers.
    pub driver: String,
    /// `vulkan`, `metal`, `webgpu`, …
    pub backend: String,
    /// Whether shaders run on the CPU.
    pub software: bool,
    /// The most bytes of a storage buffer that a kernel may bind.
    pub max_binding: u64,
    /// The most bytes of a buffer.
    pub max_buffer: u64,
    /// The most storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Whether shaders may use subgroup operations.
    pub subgroups: bool,
    /// Whether shaders may compute in half precision.
    pub shader_f16: bool,
}

/// An adapter without a device yet.
pub struct Adapter {
    instance: wgpu::Instance,
    adapter: wgpu::Adapter,
}

impl Adapter {
    /// The fastest adapter.
    pub async fn find() -> Result<Self> {
        let mut wanted = wgpu::InstanceDescriptor::new_without_display_handle();
        wanted.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::BROWSER_WEBGPU;
        let instance = wgpu::Instance::new(wanted);
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|e| Error::new(ErrorKind::NoGpu, format!("no GPU adapter: {e}; {REMEDY}")))?;
        Ok(Self { instance, adapter })
    }

    /// What the choice of a backend depends on.
    pub fn facts(&self) -> AdapterFacts {
        let info = self.adapter.get_info();
        AdapterFacts {
            name: info.name,
            is_fallback: info.device_type == wgpu::DeviceType::Cpu,
            is_metal: info.backend == wgpu::Backend::Metal,
        }
    }

    /// Whether a dot product of four int8 is one instruction.
    fn multiplies_int8(&self) -> bool {
        let features = self.instance.wgsl_language_features();
        self.facts().may_multiply_int8() && features.contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct)
    }

    fn describe(&self, limits: &wgpu::Limits) -> AdapterInfo {
        let (info, features) = (self.adapter.get_info(), self.adapter.features());
        AdapterInfo {
            software: self.facts().is_software(),
            name: info.name,
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            backend: info.backend.to_string(),
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            subgroups: features.contains(wgpu::Features::SUBGROUP),
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
        }
    }
}

/// The first error outside any call, or the loss of the device; every later call returns it.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault(Arc<Mutex<Option<Error>>>);

impl Fault {
    pub(super) fn set(&self, e: Error) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() || e.kind() == ErrorKind::DeviceLost {
            *first = Some(e);
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }
}

/// A device with its queue and limits; a copy is the same device.
#[derive(Clone)]
pub(super) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: AdapterInfo,
    pub tuning: Tuning,
    /// The defaults if nothing was measured.
    pub default: Tuning,
    pub fault: Fault,
    /// The most bytes of one binding.
    pub max_binding: u64,
    /// Whether passes can be timed.
    pub timestamps: bool,
    #[cfg(target_arch = "wasm32")]
    _last: std::rc::Rc<Last>,
}

/// A browser frees the buffers of a device that nobody holds when it collects garbage, which may be late.
#[cfg(target_arch = "wasm32")]
struct Last(wgpu::Device);

#[cfg(target_arch = "wasm32")]
impl Drop for Last {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

impl Gpu {
    pub(super) async fn request(on: &Adapter, options: Options) -> Result<Self> {
        let adapter = &on.adapter;
        let limits = wanted_limits(&adapter.limits(), options);
        let timestamps = adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let required_features = if timestamps { wgpu::Features::TIMESTAMP_QUERY } else { wgpu::Features::empty() };
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("pagelm"),
                required_limits: limits.clone(),
                required_features,
                memory_hints: wgpu::MemoryHints::MemoryUsage,
                ..Default::default()
            })
            .await
            .map_err(|e| Error::new(ErrorKind::NoGpu, format!("the adapter gave no device: {e}; {REMEDY}")))?;
        let fault = watch(&device);
        let info = on.describe(&limits);
        let q8 = options.activations == Activations::Q8 && on.multiplies_int8();
        let gemm = if q8 { Gemm::Q8 } else { Gemm::F32 };
        let default = Tuning {
            fine: options.fine_positions.unwrap_or(FINE_POSITIONS),
            ..Tuning::new(options.software.unwrap_or(info.software), gemm)
        };
        let max_binding = info.max_binding.min(info.max_buffer).min(options.max_binding.unwrap_or(u64::MAX));
        Ok(Self {
            #[cfg(target_arch = "wasm32")]
            _last: std::rc::Rc::new(Last(device.clone())),
            device,
            queue,
            info,
            tuning: default,
            default,
            fault,
            max_binding,
            timestamps,
        })
    }

    pub(super) fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// A buffer that kernels bind whole.
    pub(super) fn storage(&self, what: &str, bytes: u64) -> Result<wgpu::Buffer> {
        let bytes = bytes.next_multiple_of(16);
        self.check_binding(what, bytes)?;
        use wgpu::BufferUsages as U;
        let usage = U::STORAGE | U::COPY_SRC | U::COPY_DST;
        let desc = wgpu::BufferDescriptor { label: Some(what), size: bytes, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&desc);
        self.fault.check()?;
        Ok(buffer)
    }

    /// Refuses a buffer that kernels cannot bind whole.
    pub(super) fn check_binding(&self, what: &str, bytes: u64) -> Result<()> {
        check_binding(what, bytes, self.max_binding)
    }

    /// Waits until the device has finished all submitted work. In a browser it returns at once: only callbacks report
    /// that.
    pub(super) fn wait(&self) -> Result<()> {
        self.wait_for(None)
    }

    /// The same up to a submission.
    pub(super) fn wait_for(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        if let Err(e) = self.device.poll(wgpu::PollType::Wait { submission_index, timeout: None }) {
            self.fault.check()?;
            bail!(GpuError, "waiting for the GPU failed: {e}");
        }
        self.fault.check()
    }
}

/// Refuses what cannot be bound whole with bindings of at most this many bytes.
pub(super) fn check_binding(what: &str, bytes: u64, max_binding: u64) -> Result<()> {
    if bytes > max_binding {
        bail!(
            OutOfMemory,
            "{what} needs {bytes} bytes, the GPU can bind at most {max_binding}; lower the context length or the tokens of a step"
        );
    }
    Ok(())
}

const REMEDY: &str = "natively install a Vulkan driver (for tests: `tests/tools/setup.sh vulkan`); in a browser use one \
                      with WebGPU, or the cpu backend";

/// The adapter's limits, of those that matter here, or the limits that every device has.
fn wanted_limits(adapter: &wgpu::Limits, options: Options) -> wgpu::Limits {
    let base = wgpu::Limits::default();
    if options.spec_limits {
        return base;
    }
    wgpu::Limits {
        max_buffer_size: adapter.max_buffer_size,
        max_storage_buffer_binding_size: adapter.max_storage_buffer_binding_size,
        max_storage_buffers_per_shader_stage: adapter.max_storage_buffers_per_shader_stage,
        max_compute_workgroup_storage_size: adapter.max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup: adapter.max_compute_invocations_per_workgroup,
        max_compute_workgroup_size_x: adapter.max_compute_workgroup_size_x,
        ..base
    }
}

/// Catches device loss and errors that no call returns, out of memory among them.
fn watch(device: &wgpu::Device) -> Fault {
    let fault = Fault::default();
    let lost = fault.clone();
    device.set_device_lost_callback(move |reason, message| {
        lost.set(Error::new(ErrorKind::DeviceLost, format!("the GPU device was lost ({reason:?}): {message}")));
    });
    let failed = fault.clone();
    device.on_uncaptured_error(Arc::new(move |e| {
        failed.set(match e {
            wgpu::Error::OutOfMemory { .. } => {
                Error::new(ErrorKind::OutOfMemory, "the GPU is out of memory; use a smaller model or a shorter context")
            }
            e => Error::new(ErrorKind::GpuError, format!("the GPU refused a command: {e}")),
        });
    }));
    fault
}
