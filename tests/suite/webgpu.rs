//! The WebGPU backend: shaders that compile everywhere, weights that arrive in any way, steps that make nothing.

use naga::back::msl;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use pagelm::backend::webgpu::shader_sources;

#[test]
fn every_shader_variant_is_valid_and_translates_to_msl() {
    let sources = shader_sources();
    for (name, wgsl) in &sources {
        let module =
            naga::front::wgsl::parse_str(wgsl).unwrap_or_else(|e| panic!("{name}: {}\n{wgsl}", e.emit_to_string(wgsl)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16_IN_FLOAT32)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{name}: {}\n{wgsl}", e.emit_to_string(wgsl)));
        let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
        msl::write_string(&module, &info, &options, &Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert!(sources.len() > 200, "only {} variants: does the list still hold them all?", sources.len());
}
