//! Which backend runs, and with which precision: one table from what a host knows.

use serde::{Deserialize, Serialize};

use crate::backend::{Activations, AdapterFacts, KvType};
use crate::error::{Error, ErrorKind, Result};

/// The backend that a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// The fastest one available.
    #[default]
    Auto,
    /// The GPU, or an error if there is none.
    Webgpu,
    /// The SIMD kernels on threads.
    Cpu,
    /// The slow, exact one.
    Reference,
}

/// A backend, by its [`Backend::name`](crate::backend::Backend::name).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendName {
    /// Prints as `webgpu`.
    Webgpu,
    /// Prints as `cpu`. Every host has it.
    #[default]
    Cpu,
    /// Prints as `reference`.
    Reference,
}

impl BackendName {
    /// The name, as in reports and messages.
    pub fn name(self) -> &'static str {
        match self {
            BackendName::Webgpu => "webgpu",
            BackendName::Cpu => "cpu",
            BackendName::Reference => "reference",
        }
    }
}

/// The adapters that the GPU's kernels are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernels {
    /// Large workgroups, shared memory and barriers.
    Hardware,
    /// Small workgroups: shaders run on the CPU.
    Software,
}

/// What a host knows, and what its user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HostFacts {
    /// What the user asks for.
    pub backend: Wanted,
    /// The GPU adapter, if there is one.
    pub adapter: Option<AdapterFacts>,
    /// The reason, if there is none.
    pub no_adapter: String,
    /// Results are compared with others, so they must be as exact as possible.
    pub exact: bool,
    /// What the user asks for; `None` takes the fastest that the purpose allows.
    pub activations: Option<Activations>,
    /// What the user asks for; `None` takes the smallest that the purpose allows.
    pub kv_type: Option<KvType>,
    /// What the user asks for; `None` goes by the adapter.
    pub kernels: Option<Kernels>,
}

/// The choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// The backend to open.
    pub backend: BackendName,
    /// The reason for this backend.
    pub reason: String,
    /// Precision of the activations in matrix products.
    pub activations: Activations,
    /// Type of the KV cache, if the backend supports it.
    pub kv_type: KvType,
    /// `None` if no GPU runs.
    pub kernels: Option<Kernels>,
}

/// The best backend for these facts. Fails if a GPU is asked for and there is none.
pub fn choose(facts: &HostFacts) -> Result<Choice> {
    let (backend, reason) = match (facts.backend, &facts.adapter) {
        (Wanted::Cpu, _) => (BackendName::Cpu, "asked for"),
        (Wanted::Reference, _) => (BackendName::Reference, "asked for"),
        (Wanted::Webgpu, Some(_)) => (BackendName::Webgpu, "asked for"),
        (Wanted::Webgpu, None) => {
            crate::bail!(
                NoGpu,
                "{}; take the cpu backend, or a browser or driver with WebGPU or Vulkan",
                facts.no_adapter
            )
        }
        (Wanted::Auto, None) => (BackendName::Cpu, facts.no_adapter.as_str()),
        (Wanted::Auto, Some(a)) if a.is_software() => (BackendName::Cpu, "the GPU adapter is software"),
        (Wanted::Auto, Some(_)) => (BackendName::Webgpu, "there is a GPU adapter"),
    };
    Ok(facts.on(backend, reason))
}

/// What runs instead if the chosen GPU refused the model: nothing, if it was asked for or a CPU would refuse too.
pub fn fall_back(facts: &HostFacts, refusal: &Error) -> Option<Choice> {
    let refusals = [
        ErrorKind::NoGpu,
        ErrorKind::GpuError,
        ErrorKind::DeviceLost,
        ErrorKind::UnsupportedType,
        ErrorKind::OutOfMemory,
    ];
    let on_gpu = facts.backend == Wanted::Auto && choose(facts).is_ok_and(|c| c.backend == BackendName::Webgpu);
    (on_gpu && refusals.contains(&refusal.kind())).then(|| facts.on(BackendName::Cpu, refusal.detail()))
}

impl HostFacts {
    fn on(&self, backend: BackendName, reason: &str) -> Choice {
        let adapter = self.adapter.as_ref().filter(|_| backend == BackendName::Webgpu);
        let exact = self.exact || backend == BackendName::Reference;
        let (activations, kv_type) =
            if exact { (Activations::F32, KvType::F32) } else { (Activations::Q8, KvType::F16) };
        let software = |a: &AdapterFacts| if a.is_software() { Kernels::Software } else { Kernels::Hardware };
        Choice {
            backend,
            reason: reason.to_string(),
            activations: match adapter {
                // Emulated int8 products are slower than f32.
                Some(a) if !a.may_multiply_int8() => Activations::F32,
                _ => self.activations.unwrap_or(activations),
            },
            kv_type: self.kv_type.unwrap_or(kv_type),
            kernels: adapter.map(|a| self.kernels.unwrap_or_else(|| software(a))),
        }
    }
}
