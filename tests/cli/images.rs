//! Images in prompts.

use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, RgbImage};
use pagelm::engine::{VisionModel, VisionOptions};
use pagelm::gguf::Gguf;
use serde_json::Value;

use super::serve::{CHAT, Server, with_template};
use super::{golden, json};

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pagelm-images-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a UTF-8 path").to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The fixture's image of a case.
fn picture(case: &Value) -> RgbImage {
    let of = |key: &str| case["image"][key].as_u64().expect("a size") as u32;
    let hex = case["image"]["rgb_u8_hex"].as_str().expect("bytes");
    let bytes =
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal")).collect();
    RgbImage::from_raw(of("width"), of("height"), bytes).expect("as many bytes as pixels")
}

fn numbers(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden(&format!("{name}.json"))).unwrap()).unwrap()
}

/// The ids of a case with one placeholder for its image. In Gemma's that stands where its rows begin, and what is written around
/// them comes with it.
fn ids(numbers: &Value, case: &Value) -> String {
    let mut ids: Vec<_> = case["ids"].as_array().unwrap().clone();
    let of_image = |id: &Value| *id == numbers["image_token_id"];
    if numbers["fixture"] == "gemma3vl" {
        let (first, last) = (ids.iter().position(of_image).unwrap(), ids.iter().rposition(of_image).unwrap());
        // Two newlines and a marker on each side; the first marker is the placeholder.
        let start = ids[first - 1].clone();
        ids.splice(first - 3..last + 4, [start]);
    }
    ids.dedup_by(|a, b| of_image(a) && a == b);
    ids.iter().map(Value::to_string).collect::<Vec<_>>().join(",")
}

#[test]
fn golden_passes_the_fixtures_of_models_that_see_whole() {
    for backend in ["reference", "cpu", "gpu"] {
        if backend == "gpu" && std::env::var_os("PAGELM_NO_GPU").is_some_and(|v| v == "1") {
            continue;
        }
        let [a, b, c, sizes] = ["qwen3vl.json", "qwen35vl.json", "gemma3vl.json", "smart_resize.json"].map(golden);
        let out = json(&["golden", &a, &b, &c, &sizes, "--backend", backend], 0);
        assert_eq!(out["ok"], true, "{backend}: {out}");
        for file in &out["files"].as_array().unwrap()[..3] {
            let cases = file["result"]["cases"].as_array().unwrap();
            assert!(cases.len() == 2 && cases.iter().all(|c| c["greedy_matched"] == 8), "{backend}: {file}");
        }
    }
}

#[test]
fn run_sees_an_image_from_a_file() {
    let folder = Folder::new("run");
    for name in ["qwen3vl", "qwen35vl", "gemma3vl"] {
        let numbers = numbers(name);
        let (model, mmproj) = (golden(&format!("{name}.gguf")), golden(&format!("mmproj-{name}.gguf")));
        for (i, case) in numbers["cases"].as_array().unwrap().iter().enumerate() {
            let png = folder.file(&format!("{name}-{i}.png"));
            picture(case).save(&png).unwrap();
            let ids = ids(&numbers, case);
            let flags =
                ["--max-tokens", "8", "--ignore-eos", "--temperature", "0", "--backend", "cpu", "--kv-type", "f32"];
            let files = ["--mmproj", &mmproj, "--image", &png, "--image-rows", "16", "--activations", "f32"];
            let out = json(&[&["run", "--model", &model, "--ids", &ids], &files[..], &flags[..]].concat(), 0);
            assert_eq!(out["tokens"], case["greedy"]["tokens"], "{name}, case {i}");
        }
    }
}

fn run_with(image: &Path, model: &str, status: i32) -> Value {
    let (model, mmproj) = (golden(model), golden("mmproj-qwen3vl.gguf"));
    let image = image.to_str().unwrap();
    let flags = ["--mmproj", &mmproj, "--image", image, "--backend", "cpu", "--max-tokens", "1", "--image-rows", "16"];
    json(&[&["run", "--model", &model, "--prompt", "<|image_pad|>a"], &flags[..]].concat(), status)
}

#[test]
fn run_decodes_png_jpeg_and_webp_and_refuses_what_is_no_image() {
    let folder = Folder::new("formats");
    let case = numbers("qwen3vl")["cases"][0].clone();
    let image = DynamicImage::from(picture(&case));
    for (name, format) in [("a.png", ImageFormat::Png), ("a.jpg", ImageFormat::Jpeg), ("a.webp", ImageFormat::WebP)] {
        let path = folder.0.join(name);
        image.save_with_format(&path, format).unwrap();
        let out = run_with(&path, "qwen3vl.gguf", 0);
        assert_eq!(out["usage"]["prompt_tokens"], 10, "{name}");
        let whole = std::fs::read(&path).unwrap();
        // Decoders of JPEG show as much of an image as there is.
        let left = if format == ImageFormat::Jpeg { 100 } else { whole.len() / 3 };
        std::fs::write(&path, &whole[..left]).unwrap();
        assert_eq!(run_with(&path, "qwen3vl.gguf", 1)["error"]["code"], "bad-image", "{name}, cut");
    }
    let text = folder.0.join("text");
    std::fs::write(&text, "not an image").unwrap();
    assert_eq!(run_with(&text, "qwen3vl.gguf", 1)["error"]["code"], "bad-image");
    assert_eq!(run_with(&folder.0.join("nothing"), "qwen3vl.gguf", 1)["error"]["code"], "io");
    // A header that promises far more than it has: nothing is allocated for it.
    let mut large = std::fs::read(folder.0.join("a.png")).unwrap();
    large[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    std::fs::write(&text, large).unwrap();
    assert_eq!(run_with(&text, "qwen3vl.gguf", 1)["error"]["code"], "bad-image");
}

#[test]
fn run_refuses_images_for_models_of_text_and_prompts_without_places() {
    let folder = Folder::new("refused");
    let path = folder.0.join("a.png");
    picture(&numbers("qwen3vl")["cases"][0]).save(&path).unwrap();
    assert_eq!(run_with(&path, "qwen3.gguf", 1)["error"]["code"], "no-images");
    assert_eq!(
        run_with(&path, "qwen35vl.gguf", 1)["error"]["code"],
        "invalid-argument",
        "the encoder of another model"
    );
    let (model, mmproj, image) = (golden("qwen3vl.gguf"), golden("mmproj-qwen3vl.gguf"), path.to_str().unwrap());
    let flags = ["--mmproj", &mmproj, "--image", image, "--backend", "cpu", "--image-rows", "16"];
    let out = json(&[&["run", "--model", &model, "--prompt", "text"], &flags[..]].concat(), 1);
    assert_eq!(out["error"]["code"], "invalid-argument");
}

/// Bytes as `data:` URLs have them.
fn data_url(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("data:image/png;base64,");
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        (0..=group.len()).for_each(|i| text.push(char::from(digits[(bits >> (18 - 6 * i) & 63) as usize])));
    }
    text
}

#[test]
fn serve_answers_about_images_what_run_answers_and_keeps_them() {
    // The tests in browsers have the same template, image, text and answer.
    let template = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}\
        {% if p.type == 'image' %}[<|vision_start|><|image_pad|><|vision_end|>\
        {% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}";
    // What fills the file up to a multiple of 32 bytes must not be in the prompt.
    let fill = " ".repeat((64 + 21 - (template.len() + 4) % 32) % 32);
    let (_model, model) = with_template("qwen3vl.gguf", &format!("{template}{{#{fill}#}}"));
    let folder = Folder::new("serve");
    let png = folder.0.join("a.png");
    picture(&numbers("qwen3vl")["cases"][1]).save(&png).unwrap();
    let (png, mmproj) = (png.to_str().unwrap(), golden("mmproj-qwen3vl.gguf"));
    let files = ["--mmproj", &mmproj, "--image-rows", "16", "--activations", "f32", "--kv-type", "f32"];
    let run = ["run", "--model", &model, "--chat", "--prompt", "3j?", "--image", png, "--backend", "cpu"];
    let flags = ["--threads", "1", "--max-tokens", "8", "--temperature", "0", "--ignore-eos"];
    let want = json(&[&run[..], &files, &flags].concat(), 0);
    assert_eq!(want["text"], "(name\u{fffd}\u{fffd}re3(name\u{fffd}3");
    let server = Server::start(&model, &files);
    let url = data_url(&std::fs::read(png).unwrap());
    let ask = |url: &str, text: &str| {
        let image = serde_json::json!({ "type": "image_url", "image_url": { "url": url } });
        let content = serde_json::json!([image, { "type": "text", "text": text }]);
        let messages = serde_json::json!([{ "role": "user", "content": content }]);
        let body = serde_json::json!({ "messages": messages, "temperature": 0, "max_tokens": 8, "ignore_eos": true });
        server.post(CHAT, &body)
    };
    let (status, body) = ask(&url, "3j?");
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["choices"][0]["message"]["content"], want["text"]);
    assert_eq!(body["usage"]["prompt_tokens"], want["usage"]["prompt_tokens"]);
    let numbers = numbers("qwen3vl");
    let of_image = |id: &&Value| **id == numbers["image_token_id"];
    let rows = numbers["cases"][1]["ids"].as_array().unwrap().iter().filter(of_image).count() as u64;
    let (_, body) = ask(&url, "3j? ");
    assert!(body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() >= rows, "{body}");
    for (url, words) in
        [("http://127.0.0.1/a.png", "data:image/png;base64"), ("data:,x", "base64"), (&data_url(b"x"), "no image")]
    {
        let (status, body) = ask(url, "3j?");
        assert_eq!((status, &body["error"]["code"]), (400, &"bad-image".into()), "{body}");
        assert_eq!(body["error"]["param"], "messages[0].content[0].image_url.url");
        assert!(body["error"]["message"].as_str().unwrap().contains(words), "{body}");
    }
}

#[test]
fn synth_writes_encoders_that_the_engine_takes() {
    let folder = Folder::new("synth");
    let path = folder.file("mmproj.gguf");
    let shapes = [("gemma3-encoder-1l", "F16", "64", 64), ("qwen3vl-encoder-2l", "Q8_0", "96", 3 * 96)];
    for (shape, dtype, width, columns) in shapes {
        json(&["synth", "--shape", shape, "--type", dtype, "--width", width, "--out", &path], 0);
        let bytes = std::fs::read(&path).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        VisionModel::new(&gguf, &|_| true, &VisionOptions::default()).unwrap();
        let (_, vision) = pagelm::arch::vision(&gguf, &|_| true, false).unwrap();
        assert_eq!(vision.columns(), columns, "{shape}");
    }
    // Rows of 4304 and of 1152 values are no whole blocks of these.
    for dtype in ["Q8_0", "Q4_K"] {
        let odd = json(&["synth", "--shape", "gemma3-encoder-1l", "--type", dtype, "--out", &path], 1);
        assert_eq!(odd["error"]["code"], "invalid-argument");
    }
}

#[test]
fn bench_times_the_parts_of_an_image() {
    let [model, mmproj] = ["gemma3vl.gguf", "mmproj-gemma3vl.gguf"].map(golden);
    let out = json(
        &["bench", "--model", &model, "--mmproj", &mmproj, "--backend", "cpu", "--threads", "1", "--reps", "2"],
        0,
    );
    assert_eq!((&out["rows"], &out["parts"]), (&9.into(), &1.into()));
    for times in ["image_ms", "part_ms"] {
        let [min, max] = ["min", "max"].map(|key| out[times][key].as_f64().unwrap());
        assert!(0.0 < min && min <= max, "{out}");
    }
}
