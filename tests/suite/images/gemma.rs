//! Gemma 3, whose images are squares of one size, in a paragraph of their own, with rows that see each other.

use pagelm::engine::place_images;
use pagelm::text::EncodeOptions;

use super::*;
use crate::cases::golden::images::GEMMA;

const PARSE: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

fn open(options: Options) -> Engine {
    let file = fixtures::bytes("golden/gemma3vl.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let backend = Cpu::new(1);
    let model = Model::new(&gguf, &|d| backend.supports(d), &Options { images: true, ..options }).unwrap();
    model.load(&gguf, &file, Box::new(backend)).unwrap().into_engine()
}

#[test]
fn an_image_stands_between_its_markers_in_a_paragraph_of_its_own() {
    let tokenizer = tokenizer(GEMMA);
    let mut engine = engine(GEMMA, Box::new(Cpu::new(1)));
    let (_, image, _) = prompts(GEMMA, &mut engine).swap_remove(0);
    let ids = |text: &str| tokenizer.encode(text, PARSE).unwrap();
    let prompt = ids("a\n<start_of_image>\n\nb<start_of_image><start_of_image>c");
    let images = [image.clone(), image.clone(), image.clone()];
    let placed = place_images(&tokenizer, &prompt, &images).unwrap();
    // What the processor of the model writes, before it is cut into tokens.
    let want = [
        ids("a\n\n\n<start_of_image>"),
        image.tokens().to_vec(),
        ids("<end_of_image>\n\n\n\nb\n\n<start_of_image>"),
        image.tokens().to_vec(),
        ids("<end_of_image>\n\n\n\n<start_of_image>"),
        image.tokens().to_vec(),
        ids("<end_of_image>\n\nc"),
    ];
    assert_eq!(placed, want.concat());
    refused("two places", place_images(&tokenizer, &prompt, &images[1..]).map(drop), ErrorKind::InvalidArgument);
}

#[test]
fn an_image_after_long_text_is_not_cut() {
    let tokenizer = tokenizer(GEMMA);
    let sizes = Options { n_ctx: Some(400), ..Options::DEFAULT };
    let mut runs = [128, 400].map(|max_tokens| {
        let mut engine = open(Options { max_tokens, sequences: 2, ..sizes });
        let (prompt, image, _) = prompts(GEMMA, &mut engine).swap_remove(0);
        let most = engine.limits().max_tokens;
        // Steps are long enough for the images of real models; the image would end past a step.
        let text: Vec<u32> = (0..270).map(|i| 262 + i * 7 % 90).collect();
        let long = [&text[..], &prompt].concat();
        let mut tokens = vec![Vec::new(); 2];
        let all = [(&long[..], greedy(6)), (&prompt[..], greedy(6))];
        let each = |i: usize, event: pagelm::Result<Event>| {
            if let Event::Token { id, .. } = event.unwrap() {
                tokens[i].push(id);
            }
            true
        };
        block_on(engine.generate_batch(&tokenizer, all, &|| 0.0, each)).unwrap();
        let mut s = engine.sequence();
        let row = last(&mut engine, &mut s, &long);
        drop(image);
        (most, tokens, row)
    });
    assert_eq!((runs[0].0, runs[1].0), (272, 400));
    let (a, b) = (std::mem::take(&mut runs[0]), std::mem::take(&mut runs[1]));
    assert_eq!(a.1, b.1);
    assert!(max_diff(&a.2, &b.2) <= 2e-4);
}

#[test]
fn a_sequence_whose_window_is_gone_goes_back_into_an_image() {
    let mut engine = open(Options { n_ctx: Some(1500), ..Options::DEFAULT });
    let (prompt, _image, _) = prompts(GEMMA, &mut engine).swap_remove(0);
    let mut s = engine.sequence();
    let want = last(&mut engine, &mut s, &prompt);
    let text: Vec<u32> = (0..1400).map(|i| 262 + i * 7 % 90).collect();
    last(&mut engine, &mut s, &text);
    // The rows before this one run again, and must see those after it.
    engine.rollback(&mut s, 11).unwrap();
    let got = last(&mut engine, &mut s, &prompt[11..]);
    assert!(max_diff(&got, &want) <= 2e-4, "off by {}", max_diff(&got, &want));
}

#[test]
fn encoders_and_models_without_room_for_an_image_are_refused() {
    let read = |name: &str| Gguf::parse(&fixtures::bytes(&format!("golden/{name}.gguf"))).unwrap();
    let encoder = |name: &str, max_rows| {
        VisionModel::new(&read(name), &|_| true, &VisionOptions { max_rows, ..VisionOptions::default() })
    };
    let model = |name, n_ctx| {
        let options = Options { images: true, n_ctx: Some(n_ctx), ..Options::DEFAULT };
        Model::new(&read(name), &|_| true, &options).unwrap()
    };
    refused("8 rows", encoder("mmproj-gemma3vl", 8).map(drop), ErrorKind::InvalidArgument);
    let gemma = encoder("mmproj-gemma3vl", 9).unwrap();
    gemma.check(&model("gemma3vl", 64)).unwrap();
    refused("a context of 8", gemma.check(&model("gemma3vl", 8)), ErrorKind::InvalidArgument);
    // Its window is shorter than an image.
    refused("a window of 8", gemma.check(&model("gemma3", 64)), ErrorKind::InvalidArgument);
    refused("another family", gemma.check(&model("qwen35vl", 64)), ErrorKind::InvalidArgument);
    let qwen = encoder("mmproj-qwen35vl", 9).unwrap();
    refused("another family", qwen.check(&model("gemma3vl", 64)), ErrorKind::InvalidArgument);
}

/// The header of the encoder, changed.
fn changed(change: impl FnOnce(&mut Gguf)) -> pagelm::Result<Encoder> {
    let file = fixtures::bytes("golden/mmproj-gemma3vl.gguf");
    let mut gguf = Gguf::parse(&file).unwrap();
    change(&mut gguf);
    let backend = Cpu::new(1);
    let model = VisionModel::new(&gguf, &|d| backend.supports(d), &VisionOptions::default())?;
    model.load(&gguf, &file, Box::new(backend))
}

#[test]
fn files_that_call_up_down_make_the_same_rows() {
    let image = load(GEMMA).cases.remove(1).pixels();
    let rows = |mut e: Encoder| {
        let image = e.processor().process(&image, None).unwrap();
        block_on(e.encode(&image)).unwrap().values
    };
    let swapped = changed(|gguf| {
        for t in &mut gguf.tensors {
            t.name = match t.name.rsplit_once("ffn_") {
                Some((layer, rest)) if rest.starts_with("up") => format!("{layer}ffn_down{}", &rest[2..]),
                Some((layer, rest)) => format!("{layer}ffn_up{}", &rest[4..]),
                None => t.name.clone(),
            };
        }
    });
    assert_eq!(rows(swapped.unwrap()), rows(changed(|_| ()).unwrap()));
}

#[test]
fn encoders_whose_squares_do_not_fit_are_refused() {
    let with = |key: &str, value| changed(|gguf| super::encoders::set(gguf, key, value)).map(drop);
    with("clip.vision.projector.scale_factor", Value::Uint(4)).unwrap();
    for n in [5, 9, 0] {
        let e = with("clip.vision.projector.scale_factor", Value::Uint(n));
        refused("squares", e, ErrorKind::BadConfig);
    }
    refused("another matrix", with("clip.vision.projection_dim", Value::Uint(65)), ErrorKind::BadTensor);
}
