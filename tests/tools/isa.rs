//! `make isa`: what a real compiler makes of the kernels, without a GPU. RADV, Mesa's driver for AMD GPUs, compiles for a
//! device that is not there, and says how many registers and instructions a kernel takes. They are compared with those
//! in `isa.tsv`: a kernel that spills registers, or needs more than 5 % more instructions than recorded, fails.
//! `UPDATE_ISA=1 make isa` records what is there now.

use std::collections::{BTreeMap, HashSet};
use std::ffi::CStr;
use std::fmt::Write;
use std::path::Path;

use ash::khr::pipeline_executable_properties as executable;
use ash::vk;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ShaderStage};
use pagelm::backend::webgpu::shader_sources;

/// How many more instructions than recorded are too many.
const MOST: f64 = 1.05;

/// What the compiler says of a kernel.
struct Figures {
    vgprs: u64,
    spilled: u64,
    waves: u64,
    instructions: u64,
    /// In the loop over the weights, for each of them; only of `gemv`.
    per_weight: Option<f64>,
}

fn main() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/isa.tsv");
    // SAFETY: nothing else of this process uses Vulkan, and `Compiler` keeps what its calls need.
    let compiler = unsafe { Compiler::new() };
    let (mut found, mut seen) = (BTreeMap::new(), HashSet::new());
    for (name, source) in shader_sources() {
        if is_usual(&name) && seen.insert(source.clone()) {
            // Several variants have one name: they differ in how many rows of x they take.
            let number = (1..).find(|n| !found.contains_key(&(name.clone(), *n))).expect("numbers do not end");
            found.insert((name, number), compiler.figures(&source));
        }
    }
    let mut text = format!("# {}\n# kernel\tvgprs\twaves\tinstructions\tof a weight\n", compiler.driver);
    for ((name, number), f) in &found {
        let per_weight = f.per_weight.map_or_else(|| "-".to_string(), |n| format!("{n:.2}"));
        let Figures { vgprs, waves, instructions, .. } = f;
        writeln!(text, "{name} #{number}\t{vgprs}\t{waves}\t{instructions}\t{per_weight}").expect("strings grow");
    }
    let mut wrong: Vec<_> = (found.iter().filter(|(_, f)| f.spilled > 0))
        .map(|((name, number), f)| format!("{name} #{number} spills {} registers", f.spilled))
        .collect();
    if std::env::var_os("UPDATE_ISA").is_some() {
        std::fs::write(&file, &text).expect("the folder of this tool is writable");
    } else {
        let recorded = std::fs::read_to_string(&file).expect("isa.tsv is there; UPDATE_ISA=1 makes it");
        wrong.extend(compare(&recorded, &text));
    }
    for line in text.lines().filter(|l| !l.ends_with("\t-")) {
        println!("{line}");
    }
    println!("{} kernels compiled; the rest is in {}", found.len(), file.display());
    assert!(wrong.is_empty(), "{} kernels got worse:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a variant is one of those that most models use: there are thousands, and each takes a fraction of a second.
fn is_usual(name: &str) -> bool {
    let seldom = ["software", "GatedNorm", "GeluTanh", "of outputs", "Some(", "SumNorm", "AddToItself", "of tokens of"];
    let rare = ["IQ1", "IQ2", "IQ3", "TQ", "NVFP4", "Q1_0", "Q2_0", "BF16"];
    let exotic = ["attention 6 ", "attention 80", "attention 96", "attention 512"];
    !seldom.iter().chain(&rare).chain(&exotic).any(|word| name.contains(word))
}

/// What is worse than recorded.
fn compare(recorded: &str, now: &str) -> Vec<String> {
    let (old, new) = (rows(recorded), rows(now));
    if recorded.lines().next() != now.lines().next() {
        let [was, is] = [recorded, now].map(|t| t.lines().next().unwrap_or_default().trim_start_matches("# "));
        return vec![format!("isa.tsv was recorded with {was}, and this is {is}: UPDATE_ISA=1 records it anew")];
    }
    let mut wrong = Vec::new();
    for (name, figures) in &new {
        let Some(before) = old.get(name) else {
            wrong.push(format!("{name} is not in isa.tsv: UPDATE_ISA=1 records it"));
            continue;
        };
        for (what, i) in [("instructions", 2), ("instructions of a weight", 3)] {
            if let (Some(a), Some(b)) = (before.get(i), figures.get(i))
                && *b > a * MOST
            {
                wrong.push(format!("{name}: {b} {what}, {a} are recorded"));
            }
        }
    }
    wrong
}

/// The numbers of each kernel of such a table.
fn rows(text: &str) -> BTreeMap<&str, Vec<f64>> {
    let row = |l| {
        let (name, rest): (&str, &str) = str::split_once(l, '\t').expect("a name, then numbers");
        (name, rest.split('\t').filter_map(|n| n.parse().ok()).collect())
    };
    text.lines().filter(|l| !l.starts_with('#')).map(row).collect()
}

/// A number in the text of a shader.
fn constant(source: &str, name: &str) -> Option<f64> {
    let rest = source.split_once(&format!("const {name}: u32 = "))?.1;
    rest.split_once('u')?.0.parse().ok()
}

/// Weights that a thread of a `gemv` of one matrix, one row of x and no experts multiplies in a turn of its loop.
fn weights_of_a_turn(source: &str) -> Option<f64> {
    let is_one = |name| constant(source, name) == Some(1.0);
    let one = is_one("T") && is_one("HALVES") && !source.contains("fn rows_1") && !source.contains("const EXPERTS:");
    one.then(|| constant(source, "NR").unwrap_or(1.0) * 32.0 * constant(source, "SPAN_0").unwrap_or(1.0))
}

/// Instructions of the longest of the loops without a loop in them.
fn longest_loop(listing: &str) -> f64 {
    let (mut blocks, mut loops) = (Vec::new(), Vec::new());
    for line in listing.lines() {
        let number = |word: &str| word.trim_end_matches(':').strip_prefix("BB").and_then(|n| n.parse::<usize>().ok());
        let mut words = line.split(';').next().unwrap_or_default().split_whitespace();
        let Some(first) = words.next() else { continue };
        if first.ends_with(':') && number(first).is_some() {
            blocks.push((number(first).unwrap_or_default(), 0.0));
        } else if let Some((block, count)) = blocks.last_mut() {
            *count += 1.0;
            let target = if first.contains("branch") { words.find_map(number) } else { None };
            loops.extend(target.filter(|t| t <= block).map(|t| (t, *block)));
        }
    }
    let within = |a: &(usize, usize), b: &(usize, usize)| a != b && b.0 <= a.0 && a.1 <= b.1;
    let inner = loops.iter().filter(|outer| !loops.iter().any(|l| within(l, outer)));
    let length = |(a, b): &(usize, usize)| blocks.iter().filter(|(n, _)| (*a..=*b).contains(n)).map(|(_, c)| c).sum();
    inner.map(length).fold(0.0, f64::max)
}

/// The SPIR-V of a shader as wgpu makes it for this project, and what it binds: (binding, whether a uniform).
fn translate(source: &str) -> (Vec<u32>, Vec<(u32, bool)>) {
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
    let info = info.unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 5),
        flags: spv::WriterFlags::empty(),
        capabilities: None,
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    };
    let entry = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".into() };
    let words = spv::write_vec(&module, &info, &options, Some(&entry)).expect("valid modules can be written");
    let binding = |v: &naga::GlobalVariable| Some((v.binding.as_ref()?.binding, v.space == AddressSpace::Uniform));
    (words, module.global_variables.iter().filter_map(|(_, v)| binding(v)).collect())
}

/// A driver that compiles.
struct Compiler {
    _entry: ash::Entry,
    _instance: ash::Instance,
    device: ash::Device,
    executable: executable::Device,
    driver: String,
}

impl Compiler {
    /// The first device of the driver that the environment names.
    unsafe fn new() -> Self {
        // SAFETY: the loader is a library like any other, and every structure lives until its call returns.
        unsafe {
            let entry = ash::Entry::load().expect("a Vulkan loader: tests/tools/setup.sh radv installs one");
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&app);
            let instance = entry.create_instance(&info, None).expect("a driver: is VK_ICD_FILENAMES that of RADV?");
            let physical = instance.enumerate_physical_devices().expect("devices are listed")[0];
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let device_name = properties.properties.device_name_as_c_str().unwrap_or_default().to_string_lossy();
            let device_name = device_name.into_owned();
            let driver = driver.driver_info_as_c_str().unwrap_or_default().to_string_lossy();
            let driver = format!("{device_name}, {driver}");
            let mut captures =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
            let extensions = [executable::NAME.as_ptr()];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut captures);
            let device = instance.create_device(physical, &info, None).expect("a device that says what it compiles");
            let executable = executable::Device::new(&instance, &device);
            Self { _entry: entry, _instance: instance, device, executable, driver }
        }
    }

    fn figures(&self, source: &str) -> Figures {
        let (words, bindings) = translate(source);
        let of = |(binding, uniform)| {
            let kind = if uniform { vk::DescriptorType::UNIFORM_BUFFER } else { vk::DescriptorType::STORAGE_BUFFER };
            vk::DescriptorSetLayoutBinding::default()
                .binding(binding)
                .descriptor_type(kind)
                .descriptor_count(1)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let bindings: Vec<_> = bindings.into_iter().map(of).collect();
        let (d, name) = (&self.device, c"main");
        // SAFETY: naga validated the module and wrote it, the layout has all that it binds, and what is made is
        // destroyed after its last use.
        unsafe {
            let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [d.create_descriptor_set_layout(&info, None).expect("a layout")];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = d.create_pipeline_layout(&layout, None).expect("a layout");
            let info = vk::ShaderModuleCreateInfo::default().code(&words);
            let module = d.create_shader_module(&info, None).expect("a module");
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(name);
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(flags)];
            let made = d.create_compute_pipelines(vk::PipelineCache::null(), &info, None);
            let pipeline = made.expect("the driver compiles what naga validated")[0];
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let statistics = self.executable.get_pipeline_executable_statistics(&info).expect("the driver counts");
            let count = |name: &CStr| {
                let found = statistics.iter().find(|s| s.name_as_c_str() == Ok(name));
                found.unwrap_or_else(|| panic!("{} does not count {name:?}", self.driver)).value.u64
            };
            let per_weight = weights_of_a_turn(source).map(|n| longest_loop(&self.listing(&info)) / n);
            let figures = Figures {
                vgprs: count(c"VGPRs"),
                spilled: count(c"Spilled VGPRs"),
                waves: count(c"Subgroups per SIMD"),
                instructions: count(c"Instructions"),
                per_weight,
            };
            d.destroy_pipeline(pipeline, None);
            d.destroy_shader_module(module, None);
            d.destroy_pipeline_layout(layout, None);
            d.destroy_descriptor_set_layout(sets[0], None);
            figures
        }
    }

    /// The machine code as text.
    unsafe fn listing(&self, info: &vk::PipelineExecutableInfoKHR<'_>) -> String {
        let call = self.executable.fp().get_pipeline_executable_internal_representations_khr;
        let device = self.executable.device();
        // SAFETY: the first call says how many there are, the second how long each is, the third fills them.
        unsafe {
            let mut n = 0;
            call(device, info, &mut n, std::ptr::null_mut()).result().expect("representations are counted");
            let mut all = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); n as usize];
            call(device, info, &mut n, all.as_mut_ptr()).result().expect("their lengths are known");
            let mut texts: Vec<Vec<u8>> = all.iter().map(|r| vec![0; r.data_size]).collect();
            for (r, text) in all.iter_mut().zip(&mut texts) {
                r.p_data = text.as_mut_ptr().cast();
            }
            call(device, info, &mut n, all.as_mut_ptr()).result().expect("there is room for them");
            let assembly = all.iter().position(|r| r.name_as_c_str() == Ok(c"Assembly"));
            let text = &texts[assembly.expect("the driver lists machine code")];
            String::from_utf8_lossy(text).into_owned()
        }
    }
}
