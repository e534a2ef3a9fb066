//! Files of encoders: those that are refused, and all types of weights.

use super::*;
use crate::cases::golden::images::GEMMA;

/// Opens an encoder's file that was changed.
fn open_changed(change: impl FnOnce(&mut Gguf)) -> pagelm::Result<()> {
    let mut gguf = Gguf::parse(&fixtures::bytes("golden/mmproj-qwen3vl.gguf")).unwrap();
    change(&mut gguf);
    VisionModel::new(&gguf, &|_| true, &VisionOptions::default()).map(drop)
}

pub(super) fn set(gguf: &mut Gguf, key: &str, value: Value) {
    let others = gguf.meta.iter().filter(|(k, _)| *k != key).map(|(k, v)| (k.to_string(), v.clone()));
    let others: Vec<_> = others.collect();
    gguf.meta = Default::default();
    others.into_iter().chain([(key.to_string(), value)]).for_each(|(k, v)| _ = gguf.meta.insert(k, v));
}

#[test]
fn encoders_that_are_not_known_or_contradict_themselves_are_refused() {
    open_changed(|_| ()).unwrap();
    let text = |s: &str| Value::String(s.to_string());
    let changed = |key: &'static str, value: Value| open_changed(|g| set(g, key, value));
    let e = changed("clip.projector_type", text("pixtral")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::UnsupportedArchitecture);
    assert!(e.to_string().contains("`pixtral`"), "{e}");
    let cases = [
        ("general.architecture", text("llama"), ErrorKind::UnsupportedArchitecture),
        ("clip.use_gelu", Value::Bool(false), ErrorKind::BadConfig),
        ("clip.vision.patch_size", Value::Uint(7), ErrorKind::BadConfig),
        ("clip.vision.patch_size", Value::Uint(4096), ErrorKind::BadConfig),
        ("clip.vision.spatial_merge_size", Value::Uint(9), ErrorKind::BadConfig),
        ("clip.vision.spatial_merge_size", Value::Uint(0), ErrorKind::BadConfig),
        ("clip.vision.attention.head_count", Value::Uint(3), ErrorKind::BadConfig),
        ("clip.vision.block_count", Value::Uint(1 << 20), ErrorKind::BadConfig),
        ("clip.vision.block_count", Value::Uint(3), ErrorKind::BadConfig),
        ("clip.vision.embedding_length", Value::Uint(64), ErrorKind::BadTensor),
        ("clip.vision.image_std", Value::Bool(true), ErrorKind::WrongKeyType),
        ("clip.vision.new_trick", Value::Uint(1), ErrorKind::UnknownContent),
    ];
    for (key, value, kind) in cases {
        refused(key, changed(key, value), kind);
    }
    let gguf = Gguf::parse(&fixtures::bytes("golden/mmproj-qwen3vl.gguf")).unwrap();
    refused("no model", Model::new(&gguf, &|_| true, &Options::DEFAULT).map(drop), ErrorKind::UnsupportedArchitecture);
    refused("a missing tensor", open_changed(|g| _ = g.tensors.pop()), ErrorKind::MissingTensor);
    for max_rows in [0, 1 << 20] {
        let options = VisionOptions { max_rows, ..VisionOptions::default() };
        refused("rows", VisionModel::new(&gguf, &|_| true, &options).map(drop), ErrorKind::InvalidArgument);
    }
}

/// The encoder's file with its matrices in another type, as far as their rows are whole blocks of it; with the one that Gemma's
/// has the other way around.
fn retyped(name: &str, dtype: DType) -> (Gguf, Vec<u8>) {
    let file = fixtures::bytes(&format!("golden/mmproj-{name}.gguf"));
    let mut gguf = Gguf::parse(&file).unwrap();
    let mut bytes = Vec::new();
    for t in &mut gguf.tensors {
        let old = &file[t.offset as usize..(t.offset + t.len) as usize];
        let is_matrix = t.dtype == DType::F16 || t.name == "mm.input_projection.weight";
        let new = if t.dims.len() == 2 && is_matrix && t.cols().is_multiple_of(dtype.block_elems()) {
            let mut values = vec![0.0; t.cols() * t.rows()];
            quant::decode(t.dtype, old, &mut values).unwrap();
            t.dtype = dtype;
            quant::encode(dtype, &values).unwrap()
        } else {
            old.to_vec()
        };
        (t.offset, t.len) = (bytes.len() as u64, new.len() as u64);
        bytes.extend(new);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
    }
    (gguf, bytes)
}

#[test]
fn encoders_of_every_type_give_the_rows_that_the_reference_gives() {
    let types = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0];
    for (name, dtype) in ["qwen35vl", GEMMA].into_iter().flat_map(|name| types.map(|dtype| (name, dtype))) {
        let image = load(name).cases[1].pixels();
        let (gguf, bytes) = retyped(name, dtype);
        let projection = gguf.tensors.iter().find(|t| t.name == "mm.input_projection.weight");
        assert_eq!(projection.map(|t| t.dtype), (name == GEMMA).then_some(dtype));
        let rows = |backend: Box<dyn Backend>| {
            let options = VisionOptions { max_rows: 16, ..VisionOptions::default() };
            let model = VisionModel::new(&gguf, &|d| backend.supports(d), &options).unwrap();
            let mut encoder = model.load(&gguf, &bytes, backend).unwrap();
            let image = encoder.processor().process(&image, None).unwrap();
            block_on(encoder.encode(&image)).unwrap().values
        };
        let want = rows(Box::new(Reference::new()));
        for c in backends::all() {
            // A layer's tolerance for each of three, with the merger.
            tol::LAYER.times(3.0 * c.slack).check(
                &format!("{name} {dtype} on {}", c.name),
                &rows((c.make)()),
                &want,
                64,
            );
        }
    }
}
