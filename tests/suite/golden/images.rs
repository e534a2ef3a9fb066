//! Models that see: from the pixels of an image to the tokens that follow it.

use std::future::poll_fn;

use pagelm::backend::reference::Reference;
use pagelm::backend::{Backend, Segment, Step};
use pagelm::engine::{Encoder, Engine, ImageRows, Model, VisionModel, VisionOptions};
use pagelm::gguf::Gguf;
use pagelm::image::{Cut, Filter, Pixels, patches, resize};
use pollster::block_on;
use serde::Deserialize;

use super::{HIDDEN, OPTIONS, logit_tolerance};
use crate::common::backends::{self, Candidate};
use crate::common::fixtures;
use crate::common::golden::{Array, Greedy, argmax, max_diff};

pub(crate) const FIXTURES: [&str; 3] = ["qwen3vl", "qwen35vl", GEMMA];

/// Whose images are squares of one size, with rows that are read like text but see each other.
pub(crate) const GEMMA: &str = "gemma3vl";

/// Of the largest value of the rows that the encoder makes: f32 and f64 of the reference are 1e-6 apart. The exp and tanh of GPUs
/// are looser.
fn rows_tolerance(backend: &str) -> f32 {
    if backend == "webgpu" { 3e-5 } else { 5e-6 }
}

/// Of logits after rows that the engine made: in the random weights of qwen35vl the 2e-6 by which those differ grow 200 times,
/// so that exact arithmetic is 5e-4 from the reference's f32.
const FROM_PIXELS: f32 = 4.0;

#[derive(Deserialize)]
pub(crate) struct Images {
    pub image_token_id: u32,
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    image: Rgb,
    grid_thw: [usize; 3],
    first_patch_values: Array,
    patch_embd: Option<Array>,
    blocks_in: Option<Array>,
    blocks_out: Vec<Array>,
    image_embeds: Array,
    deepstack: Vec<Array>,
    pub ids: Vec<u32>,
    position_ids: [Vec<usize>; 3],
    pub logits_all: Array,
    pub greedy: Greedy,
}

#[derive(Deserialize)]
struct Rgb {
    height: usize,
    width: usize,
    rgb_u8_hex: String,
}

impl Case {
    pub(crate) fn pixels(&self) -> Pixels<'static> {
        let Rgb { height, width, rgb_u8_hex: hex } = &self.image;
        let byte = |i: usize| u8::from_str_radix(&hex[2 * i..][..2], 16).unwrap();
        let pixel = |i: usize| [byte(3 * i), byte(3 * i + 1), byte(3 * i + 2), 255];
        Pixels::new(*width, *height, (0..width * height).flat_map(pixel).collect::<Vec<u8>>()).unwrap()
    }

    /// The prompt, with the tokens of an image in place of the placeholders.
    pub(crate) fn prompt(&self, placeholder: u32, image: &[u32]) -> Vec<u32> {
        let mut rows = image.iter();
        let prompt = self.ids.iter().map(|id| if *id == placeholder { *rows.next().unwrap() } else { *id });
        let prompt = prompt.collect();
        assert_eq!(rows.next(), None, "the prompt has a placeholder for each row");
        prompt
    }
}

pub(crate) fn load(name: &str) -> Images {
    serde_json::from_slice(&fixtures::bytes(&format!("golden/{name}.json"))).unwrap()
}

/// Sizes of fixtures are below what real files allow at least.
pub(crate) fn encoder(name: &str, backend: Box<dyn Backend>) -> Encoder {
    let file = fixtures::bytes(&format!("golden/mmproj-{name}.gguf"));
    let gguf = Gguf::parse(&file).unwrap();
    let options = VisionOptions { max_rows: 16, ..VisionOptions::default() };
    VisionModel::new(&gguf, &|d| backend.supports(d), &options).unwrap().load(&gguf, &file, backend).unwrap()
}

pub(crate) fn engine(name: &str, backend: Box<dyn Backend>) -> Engine {
    let file = fixtures::bytes(&format!("golden/{name}.gguf"));
    let gguf = Gguf::parse(&file).unwrap();
    let options = pagelm::engine::Options { images: true, ..OPTIONS };
    let model = Model::new(&gguf, &|d| backend.supports(d), &options).unwrap();
    model.load(&gguf, &file, backend).unwrap().into_engine()
}

fn everywhere(check: impl Fn(&str, &str, &Candidate)) {
    let reference = Candidate { name: "reference", make: || Box::new(Reference::new()), slack: 1.0 };
    for c in backends::all().into_iter().chain([reference]) {
        FIXTURES.iter().for_each(|name| check(name, &format!("{name} on {}", c.name), &c));
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0f32, |m, v| m.max(v.abs()))
}

#[test]
fn what_the_encoder_computes_is_within_tolerance_layer_by_layer() {
    for name in FIXTURES {
        let file = fixtures::bytes(&format!("golden/mmproj-{name}.gguf"));
        let gguf = Gguf::parse(&file).unwrap();
        let mut b = Reference::new();
        let options = VisionOptions { max_rows: 16, ..VisionOptions::default() };
        let model = VisionModel::new(&gguf, &|d| b.supports(d), &options).unwrap();
        b.prepare(model.plan.clone(), model.limits).unwrap();
        for piece in model.loader.clone().place(0, file.len()) {
            b.write_weight(piece.weight, piece.offset, &file[piece.bytes]).unwrap();
        }
        for (i, case) in load(name).cases.iter().enumerate() {
            let (merge, side) = if name == GEMMA { (4, 12) } else { (2, 6) };
            let cut = Cut { patch: 8, merge, side, mean: [0.5; 3], std: [0.5; 3] };
            let pixels = match name {
                GEMMA => resize(&case.pixels(), [96; 2], Filter::Bilinear).unwrap(),
                _ => case.pixels(),
            };
            let given = patches(&pixels, &cut);
            // Of each channel one frame, or two equal ones.
            let of_channel = case.first_patch_values.data.len() / 3;
            let of_channel = case.first_patch_values.data.chunks_exact(of_channel);
            let first: Vec<f32> = of_channel.flat_map(|c| c[..64].to_vec()).collect();
            assert!(max_diff(&given[..192], &first) <= 1e-6, "{name}: case {i}: pixels");
            let n = given.len() / (192 + 8);
            let tokens = vec![0; n];
            let mut segment = Segment::alone(&tokens, 0, n / (merge * merge));
            segment.place.width = pixels.width() / 8;
            b.submit(&Step { segments: &[segment], given: &given, ..Step::trunk(&[]) }).unwrap();
            let mut rows = vec![0.0; n / (merge * merge) * model.plan.graph.columns(pagelm::graph::Entry::Trunk)];
            block_on(poll_fn(|cx| b.poll_logits(cx, &mut rows))).unwrap();
            let blocks = case.blocks_out.iter().enumerate().map(|(i, out)| (format!("v.blk.{i}.out"), Some(out)));
            let first = [("patch_embd", &case.patch_embd), ("embd", &case.blocks_in)];
            let named = first.map(|(name, array)| (name.to_string(), array.as_ref())).into_iter().chain(blocks);
            for (tensor, want) in named {
                let Some(want) = want else { continue };
                let value = b.graph().named(&tensor).unwrap_or_else(|| panic!("{name}: no value is named {tensor}"));
                let got: Vec<f32> = b.value(value).iter().map(|&v| v as f32).collect();
                let diff = max_diff(&got, &want.data);
                let size = largest(&want.data);
                assert!(diff <= HIDDEN * size, "{name}: case {i}: {tensor} is off by {diff:e} of {size}");
            }
        }
    }
}

#[test]
fn rows_of_images_are_those_of_the_reference_on_every_backend() {
    everywhere(|name, what, c| {
        let mut encoder = encoder(name, (c.make)());
        for (i, case) in load(name).cases.iter().enumerate() {
            let image = encoder.processor().process(&case.pixels(), None).unwrap();
            let rows = block_on(encoder.encode(&image)).unwrap();
            let d = encoder.vision().d_model;
            let parts = [&case.image_embeds].into_iter().chain(&case.deepstack).enumerate();
            assert_eq!(rows.values.len(), case.image_embeds.data.len() * (1 + case.deepstack.len()), "{what}");
            for (part, want) in parts {
                let of_part = rows.values.chunks_exact(encoder.vision().columns()).flat_map(|r| &r[part * d..][..d]);
                let got: Vec<f32> = of_part.copied().collect();
                let (diff, size) = (max_diff(&got, &want.data), largest(&want.data));
                let tol = rows_tolerance(encoder.backend().name());
                assert!(diff <= tol * size, "{what}: case {i}, part {part}: off by {diff:e} of {size}");
            }
        }
    });
}

/// The rows of a case by the reference, for an engine.
pub(crate) fn given_rows(case: &Case) -> ImageRows {
    let [_, rows, columns] = case.grid_thw;
    // Both Qwens merge 2 by 2 patches; of images that are squares rows are read like text.
    let n = case.image_embeds.data.len() / 64;
    let (width, height) = if rows * columns == 4 * n { (columns / 2, rows / 2) } else { (0, n) };
    let parts: Vec<_> = [&case.image_embeds].into_iter().chain(&case.deepstack).collect();
    let len = case.image_embeds.data.len() / n;
    let row = |r: usize| parts.iter().flat_map(move |part| &part.data[r * len..(r + 1) * len]);
    let values = (0..n).flat_map(row).copied().collect();
    ImageRows { digest: case.pixels().digest(), width, height, values }
}

#[test]
fn every_logit_and_every_greedy_token_after_an_image_is_the_reference_s() {
    everywhere(|name, what, c| {
        let numbers = load(name);
        let mut engine = engine(name, (c.make)());
        let tol = logit_tolerance(engine.backend().name());
        for (i, case) in numbers.cases.iter().enumerate() {
            let image = engine.add_image(given_rows(case)).unwrap();
            let prompt = case.prompt(numbers.image_token_id, image.tokens());
            let mut rows = Vec::new();
            let mut sequence = engine.sequence();
            block_on(engine.prefill_all(&mut sequence, &prompt, |row| rows.extend_from_slice(row))).unwrap();
            let diff = max_diff(&rows, &case.logits_all.data);
            assert!(diff <= tol, "{what}: case {i} is off by {diff:e}, more than {tol:e}");
            let last = &rows[rows.len() - engine.n_vocab()..];
            let mut next = argmax(last);
            for (step, want) in case.greedy.tokens.iter().enumerate() {
                assert_eq!(next, *want, "{what}: case {i}, step {step}");
                next = argmax(block_on(engine.prefill(&mut sequence, &[next])).unwrap());
            }
            for cut in 0..prompt.len() {
                let mut s = engine.sequence();
                let of_image = |at: Option<usize>| at.is_some_and(|at| prompt[at] as usize >= engine.n_vocab());
                if name == GEMMA && of_image(cut.checked_sub(1)) && of_image(Some(cut)) {
                    let refused = block_on(engine.prefill_part(&mut s, &prompt[..cut])).unwrap_err();
                    assert_eq!(refused.code(), "invalid-argument", "{what}: case {i} cut after {cut}: {refused}");
                    continue;
                }
                if cut > 0 {
                    block_on(engine.prefill_part(&mut s, &prompt[..cut])).unwrap();
                }
                let row = block_on(engine.prefill(&mut s, &prompt[cut..])).unwrap();
                let diff = max_diff(row, last);
                assert!(diff <= tol, "{what}: case {i} cut after {cut} is off by {diff:e}");
            }
        }
    });
}

#[test]
fn from_pixels_to_tokens_the_engine_says_what_the_reference_says() {
    everywhere(|name, what, c| {
        let numbers = load(name);
        let (mut encoder, mut engine) = (encoder(name, (c.make)()), engine(name, (c.make)()));
        let tol = FROM_PIXELS * logit_tolerance(engine.backend().name());
        for (i, case) in numbers.cases.iter().enumerate() {
            let image = encoder.processor().process(&case.pixels(), None).unwrap();
            let image = block_on(encoder.see(&mut engine, &image)).unwrap();
            let prompt = case.prompt(numbers.image_token_id, image.tokens());
            let mut sequence = engine.sequence();
            let row = block_on(engine.prefill(&mut sequence, &prompt)).unwrap();
            let diff = max_diff(row, &case.logits_all.data[case.logits_all.data.len() - row.len()..]);
            assert!(diff <= tol, "{what}: case {i} is off by {diff:e}, more than {tol:e}");
            let mut next = argmax(row);
            for (step, want) in case.greedy.tokens.iter().enumerate() {
                assert_eq!(next, *want, "{what}: case {i}, step {step}");
                next = argmax(block_on(engine.prefill(&mut sequence, &[next])).unwrap());
            }
        }
    });
}

#[test]
fn the_coordinates_of_prompts_with_images_are_those_of_the_reference() {
    use pagelm::backend::Place;
    for case in ["qwen3vl", "qwen35vl"].iter().flat_map(|name| load(name).cases) {
        let (start, width) = (5, case.image.width / 16);
        let n = width * case.image.height / 16;
        let behind = n - width.max(case.image.height / 16);
        for pos in 0..case.ids.len() {
            let place = match pos {
                0..5 => Place::default(),
                _ if pos < start + n => Place { behind: 0, start, width },
                _ => Place { behind, ..Place::default() },
            };
            let want = [0, 1, 2].map(|axis| case.position_ids[axis][pos]);
            assert_eq!(place.at(pos, 1), want, "position {pos}");
        }
    }
}
