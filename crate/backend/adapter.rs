//! What the words that describe a GPU adapter tell of it.

use serde::Deserialize;

/// Parts of the names of adapters whose shaders run on the CPU.
pub const SOFTWARE_ADAPTERS: [&str; 3] = ["swiftshader", "llvmpipe", "basic render"];

/// An adapter as a host knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AdapterFacts {
    /// All that names it: vendor, architecture, description.
    pub name: String,
    /// The driver or the browser says that its shaders run on the CPU.
    pub is_fallback: bool,
    /// It is driven by Metal.
    pub is_metal: bool,
}

impl AdapterFacts {
    /// Whether shaders run on the CPU, where our own CPU code is several times faster. Browsers tell it by the name only, if
    /// at all.
    pub fn is_software(&self) -> bool {
        let name = self.name.to_lowercase();
        self.is_fallback || SOFTWARE_ADAPTERS.iter().any(|n| name.contains(n))
    }

    /// Whether a product of four int8 with four others can be one instruction. Apple's GPUs have none; WGSL emulates it.
    pub fn may_multiply_int8(&self) -> bool {
        !self.is_metal && !self.name.to_lowercase().contains("apple")
    }
}
