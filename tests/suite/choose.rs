//! Which backend runs, and in which numbers.

use pagelm::backend::Activations::{self, F32, Q8};
use pagelm::backend::{AdapterFacts, KvType};
use pagelm::engine::choose::{BackendName, Choice, HostFacts, Kernels, Wanted, choose, fall_back};
use pagelm::{Error, ErrorKind};

fn adapter(name: &str) -> Option<AdapterFacts> {
    Some(AdapterFacts { name: name.to_string(), ..AdapterFacts::default() })
}

fn facts(backend: Wanted, name: &str) -> HostFacts {
    let no_adapter = "there is no adapter".to_string();
    HostFacts { backend, adapter: adapter(name).filter(|_| !name.is_empty()), no_adapter, ..HostFacts::default() }
}

#[test]
fn every_host_gets_the_backend_and_the_numbers_of_the_table() {
    use BackendName::{Cpu, Reference, Webgpu};
    use Kernels::{Hardware, Software};
    let table = [
        (Wanted::Auto, "NVIDIA H100", Webgpu, "there is a GPU adapter", Q8, Some(Hardware)),
        (Wanted::Auto, "apple metal-3", Webgpu, "there is a GPU adapter", F32, Some(Hardware)),
        (Wanted::Auto, "llvmpipe (LLVM 19)", Cpu, "the GPU adapter is software", Q8, None),
        (Wanted::Auto, "Google SwiftShader", Cpu, "the GPU adapter is software", Q8, None),
        (Wanted::Auto, "Microsoft Basic Render Driver", Cpu, "the GPU adapter is software", Q8, None),
        (Wanted::Auto, "", Cpu, "there is no adapter", Q8, None),
        (Wanted::Webgpu, "NVIDIA H100", Webgpu, "asked for", Q8, Some(Hardware)),
        (Wanted::Webgpu, "Google SwiftShader", Webgpu, "asked for", Q8, Some(Software)),
        (Wanted::Cpu, "NVIDIA H100", Cpu, "asked for", Q8, None),
        (Wanted::Cpu, "apple metal-3", Cpu, "asked for", Q8, None),
        (Wanted::Reference, "NVIDIA H100", Reference, "asked for", F32, None),
    ];
    for (wanted, name, backend, reason, activations, kernels) in table {
        let kv_type = if backend == Reference { KvType::F32 } else { KvType::F16 };
        let want = Choice { backend, reason: reason.to_string(), activations, kv_type, kernels };
        assert_eq!(choose(&facts(wanted, name)).unwrap(), want, "{wanted:?} on {name}");
    }
    let none = choose(&facts(Wanted::Webgpu, "")).expect_err("a GPU that is not there");
    assert_eq!(none.kind(), ErrorKind::NoGpu);
    assert!(none.detail().starts_with("there is no adapter; "), "{none}");
}

#[test]
fn adapters_are_known_by_what_their_drivers_say_too() {
    let h100 = adapter("NVIDIA H100").unwrap();
    let fallback = HostFacts {
        adapter: Some(AdapterFacts { is_fallback: true, ..h100.clone() }),
        ..facts(Wanted::Webgpu, "NVIDIA H100")
    };
    assert_eq!(choose(&fallback).unwrap().kernels, Some(Kernels::Software));
    assert_eq!(choose(&HostFacts { backend: Wanted::Auto, ..fallback }).unwrap().backend, BackendName::Cpu);
    let metal = HostFacts { adapter: Some(AdapterFacts { is_metal: true, ..h100 }), ..facts(Wanted::Auto, "") };
    assert_eq!(choose(&metal).unwrap().activations, F32);
}

#[test]
fn what_is_asked_for_is_what_runs_and_to_compare_all_is_exact() {
    let asked = |activations: Activations| HostFacts {
        activations: Some(activations),
        kv_type: Some(KvType::Q8_0),
        kernels: Some(Kernels::Software),
        ..facts(Wanted::Auto, "NVIDIA H100")
    };
    for activations in [F32, Q8] {
        let c = choose(&asked(activations)).unwrap();
        assert_eq!((c.activations, c.kv_type, c.kernels), (activations, KvType::Q8_0, Some(Kernels::Software)));
        let exact = choose(&HostFacts { exact: true, ..asked(activations) }).unwrap();
        assert_eq!((exact.activations, exact.kv_type), (activations, KvType::Q8_0));
    }
    for wanted in [Wanted::Auto, Wanted::Cpu, Wanted::Reference] {
        let c = choose(&HostFacts { exact: true, ..facts(wanted, "NVIDIA H100") }).unwrap();
        assert_eq!((c.activations, c.kv_type), (F32, KvType::F32), "{wanted:?}");
    }
    // Emulated products of int8 are slower than those of f32, and no more exact.
    let apple = HostFacts { activations: Some(Q8), ..facts(Wanted::Auto, "Apple M4") };
    assert_eq!(choose(&apple).unwrap().activations, F32);
}

#[test]
fn the_cpu_is_the_fallback_where_only_a_gpu_refuses_and_none_was_asked_for() {
    let error = |kind| Error::new(kind, "the embedding needs 9 GiB").at("model.gguf");
    for kind in ErrorKind::ALL {
        let may = ["no-gpu", "gpu-error", "device-lost", "unsupported-type", "out-of-memory"].contains(&kind.code());
        let choice = fall_back(&facts(Wanted::Auto, "Apple M4"), &error(*kind));
        assert_eq!(choice.is_some(), may, "{kind:?}");
        for (wanted, name) in [(Wanted::Webgpu, "Apple M4"), (Wanted::Cpu, "Apple M4"), (Wanted::Auto, "llvmpipe")] {
            assert_eq!(fall_back(&facts(wanted, name), &error(*kind)), None, "{kind:?}, {wanted:?} on {name}");
        }
    }
    let c = fall_back(&facts(Wanted::Auto, "Apple M4"), &error(ErrorKind::OutOfMemory)).unwrap();
    let reason = "the embedding needs 9 GiB".to_string();
    let (backend, kv_type) = (BackendName::Cpu, KvType::F16);
    assert_eq!(c, Choice { backend, reason, activations: Q8, kv_type, kernels: None }, "as on a CPU from the start");
}

#[test]
fn pages_give_facts_and_get_the_choice_in_their_own_spelling() {
    let facts: HostFacts = serde_json::from_str(
        r#"{ "backend": "webgpu", "adapter": { "name": "swiftshader", "isFallback": true }, "kvType": "q8_0" }"#,
    )
    .unwrap();
    let choice = serde_json::to_value(choose(&facts).unwrap()).unwrap();
    let want = serde_json::json!({
        "backend": "webgpu", "reason": "asked for", "activations": "q8", "kvType": "q8_0", "kernels": "software",
    });
    assert_eq!(choice, want);
    for wrong in [r#"{ "backend": "gpu" }"#, r#"{ "kv_type": "f16" }"#, r#"{ "activations": "int8" }"#] {
        assert!(serde_json::from_str::<HostFacts>(wrong).is_err(), "{wrong}");
    }
}
