//! Requests with images: where they stand, what a host is asked for, and what the model reads.

use std::slice::from_ref;

use pagelm::api::{Host, Picture, PictureSource, Piece, Response, Runs, Seen};
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{Encoder, Options, Sequence};
use pagelm::image::Pixels;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;
use serde_json::{Value as Json, json};

use super::{Model, OPTIONS, given, open, open_with, with};
use crate::cases::golden::images::{encoder, load};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

/// Writes the places of images, and lists of parts only where there are some.
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}\
    {% else %}{% for p in m.content %}{% if p.type == 'image' %}[<|image_pad|>]{% else %}{{ p.text }}{% endif %}{% endfor %}\
    {% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn sees() -> Model {
    let options = Options { images: true, n_ctx: Some(160), cache: Some(640), ..OPTIONS };
    let Model { api, tokenizer, engine } = open_with("qwen3vl", Some(TEMPLATE), |_| {}, options);
    Model { api: api.with_images(), tokenizer, engine }
}

/// The start of a PNG file, which nobody here decodes.
const FILE: &str = "data:image/png;base64,iVBORw0KGgo=";

fn image(url: &str) -> Json {
    json!({ "type": "image_url", "image_url": { "url": url } })
}

fn text(text: &str) -> Json {
    json!({ "type": "text", "text": text })
}

fn user(content: Json) -> Json {
    json!({ "role": "user", "content": content })
}

fn chat(messages: &[Json]) -> Json {
    json!({ "messages": messages, "temperature": 0, "max_tokens": 4, "ignore_eos": true })
}

/// A page with a model that sees.
struct Page {
    model: Model,
    encoder: Encoder,
    runs: Runs,
    /// Of sessions beside the requests.
    kept: Vec<Sequence>,
}

impl Page {
    fn new() -> Self {
        Self { model: sees(), encoder: encoder("qwen3vl", Box::new(Cpu::new(1))), runs: Runs::new(4), kept: Vec::new() }
    }

    /// Starts a request that waits for images.
    fn ask(&mut self, path: &str, body: &Json) -> (u32, Vec<Picture>) {
        let Model { api, tokenizer, engine } = &mut self.model;
        let host = Host { engine, encoder: Some(&mut self.encoder), tokenizer, now: &|| 0.0, sequences: &[] };
        let request = ("POST", path, body.to_string());
        let request = (request.0, request.1, request.2.as_bytes());
        let asked = self.runs.request(host, api, request, &given(), &[]).unwrap();
        let run = asked.run.unwrap_or_else(|| panic!("{body}: {:?}", asked.pieces));
        (run, self.runs.pictures(run).to_vec())
    }

    fn give(&mut self, run: u32, pixels: Result<Pixels<'_>>) {
        self.runs.picture(Some(&self.encoder), run, pixels);
    }

    /// The response of a run, which is over then.
    fn finish(&mut self, run: u32) -> (u16, Json) {
        let (mut status, mut body) = (0, String::new());
        loop {
            let Model { tokenizer, engine, .. } = &mut self.model;
            let sequences = &self.kept.iter().collect::<Vec<_>>();
            let host = Host { engine, encoder: Some(&mut self.encoder), tokenizer, now: &|| 0.0, sequences };
            let news = block_on(self.runs.next(host, &[run])).unwrap();
            assert!(!news.is_empty(), "something runs");
            for news in news {
                for piece in news.pieces {
                    match piece {
                        Piece::Response(Response::Head { status: s, .. }) => status = s,
                        Piece::Response(Response::Body { text }) => body += &text,
                        Piece::Event(_) | Piece::Seen(_) => {}
                    }
                }
                if news.done {
                    return (status, serde_json::from_str(&body).unwrap());
                }
            }
        }
    }

    /// Asks with these images.
    fn answer(&mut self, path: &str, body: &Json, images: &[Pixels<'_>]) -> Json {
        let (run, pictures) = self.ask(path, body);
        assert_eq!(pictures.len(), images.len());
        images.iter().for_each(|image| self.give(run, Ok(image.clone())));
        let (status, body) = self.finish(run);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Images that were encoded.
    fn encoded(&self) -> u64 {
        self.encoder.backend().counters().steps
    }
}

fn pixels() -> [Pixels<'static>; 2] {
    let mut cases = load("qwen3vl").cases;
    [cases.remove(0).pixels(), cases.remove(0).pixels()]
}

#[test]
fn images_stand_where_they_were_sent_and_are_encoded_once() {
    let [a, b] = pixels();
    let mut page = Page::new();
    let rows = |page: &Page, image| page.encoder.processor().process(image, None).unwrap().rows();
    let rows = rows(&page, &a) + rows(&page, &b);
    let first = user(json!([text("x"), image(FILE), text("y"), text("z"), image(FILE), text("w")]));
    let said = page.answer(CHAT, &chat(from_ref(&first)), &[a.clone(), b.clone()]);
    // The template writes brackets around a place.
    let ids = page.model.tokenizer.encode(
        "<|im_start|>user\nx[<|image_pad|>]yz[<|image_pad|>]w<|im_end|>\n<|im_start|>assistant\n",
        pagelm::text::EncodeOptions { add_special: true, parse_special: true },
    );
    assert_eq!(said["usage"]["prompt_tokens"], ids.unwrap().len() - 2 + rows);
    assert_eq!(page.encoded(), 2);
    // A later turn has the same images: their part of the cache is there, and nothing is encoded.
    let answer = json!({ "role": "assistant", "content": said["choices"][0]["message"]["content"] });
    let later = page.answer(CHAT, &chat(&[first.clone(), answer, user(json!("more"))]), &[a.clone(), b.clone()]);
    assert_eq!(page.encoded(), 2);
    assert!(later["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() >= rows as u64, "{later}");
    // Another order of the images is another prompt.
    let other = page.answer(CHAT, &chat(from_ref(&first)), &[b, a.clone()]);
    assert_eq!(page.encoded(), 2);
    assert!(other["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() < 16, "{other}");
    // In a new page the answer is the same.
    let mut page = Page::new();
    let [_, b] = pixels();
    let again = page.answer(CHAT, &chat(&[first]), &[a, b]);
    assert_eq!(again["choices"], said["choices"]);
}

#[test]
fn a_later_turn_goes_on_from_a_sequence_that_was_restored() {
    let [a, _] = pixels();
    let mut page = Page::new();
    let first = user(json!([text("x"), image(FILE), text("y")]));
    let said = page.answer(CHAT, &chat(from_ref(&first)), from_ref(&a));
    let (mut bytes, engine) = (Vec::new(), &mut page.model.engine);
    let mut sequence = engine.newest().unwrap();
    block_on(engine.save(&mut sequence, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    }))
    .unwrap();
    let answer = json!({ "role": "assistant", "content": said["choices"][0]["message"]["content"] });
    let turn = chat(&[first, answer, user(json!("more"))]);
    let here = page.answer(CHAT, &turn, from_ref(&a));
    let cached = |said: &Json| said["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached(&here) >= said["usage"]["prompt_tokens"].as_u64().unwrap(), "{here}");
    let mut page = Page::new();
    let mut rest = &bytes[..];
    let restored = page.model.engine.restore(&mut |out| {
        let (now, later) = rest.split_at(out.len());
        out.copy_from_slice(now);
        rest = later;
        Ok(())
    });
    page.kept.push(restored.unwrap());
    let there = page.answer(CHAT, &turn, &[a]);
    assert_eq!((cached(&there), &there["choices"]), (cached(&here), &here["choices"]));
    assert_eq!(page.encoded(), 0);
}

#[test]
fn several_answers_and_responses_see_too() {
    let [a, _] = pixels();
    let mut page = Page::new();
    let message = user(json!([image(FILE), text("y")]));
    let one = page.answer(CHAT, &chat(from_ref(&message)), from_ref(&a));
    let two = page.answer(CHAT, &with(&chat(&[message]), json!({ "n": 2 })), from_ref(&a));
    assert_eq!(two["choices"][1]["message"], one["choices"][0]["message"]);
    assert_eq!(two["usage"]["prompt_tokens"], one["usage"]["prompt_tokens"]);
    let parts = json!([
        { "type": "input_image", "image_url": FILE, "detail": "high" }, { "type": "input_text", "text": "y" }
    ]);
    let body = json!({ "input": [user(parts)], "temperature": 0, "max_output_tokens": 4 });
    let response = page.answer(RESPONSES, &body, &[a]);
    assert_eq!(response["usage"]["input_tokens"], one["usage"]["prompt_tokens"]);
    assert_eq!(page.encoded(), 1);
}

#[test]
fn what_a_host_is_asked_for_is_a_file_or_a_url() {
    let mut page = Page::new();
    let low = json!({ "type": "image_url", "image_url": { "url": "https://example.org/a.png", "detail": "low" } });
    let (_, pictures) = page.ask(CHAT, &chat(&[user(json!([image(FILE), low]))]));
    let file = PictureSource::File(b"\x89PNG\r\n\x1a\n".to_vec());
    let path = |i: usize| format!("messages[0].content[{i}].image_url.url");
    assert_eq!(pictures[0], Picture { path: path(0), source: file, max_pixels: None });
    let url = PictureSource::Url("https://example.org/a.png".to_string());
    assert_eq!(pictures[1], Picture { path: path(1), source: url, max_pixels: Some(512 * 512) });
}

#[test]
fn images_that_cannot_be_had_are_refused_with_their_place() {
    let [a, _] = pixels();
    let mut page = Page::new();
    let body = chat(&[user(json!([image(FILE), image("blob:x")]))]);
    let (run, _) = page.ask(CHAT, &body);
    page.give(run, Ok(a.clone()));
    page.give(run, Err(Error::new(ErrorKind::BadImage, "is no image")));
    let (status, refused) = page.finish(run);
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("bad-image")), "{refused}");
    assert_eq!(refused["error"]["param"], "messages[0].content[1].image_url.url");
    // More than were asked for, and those of a run that is over, are nothing.
    page.give(run, Ok(a.clone()));
    // What does not fit is refused before it is encoded.
    let encoded = page.encoded();
    let many = vec![image(FILE); 60];
    let (run, _) = page.ask(CHAT, &chat(&[user(json!(many))]));
    (0..61u8).for_each(|i| page.give(run, Ok(Pixels::new(16, 16, vec![i; 1024]).unwrap())));
    let (status, refused) = page.finish(run);
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("context_length_exceeded")), "{refused}");
    assert!(page.encoded() - encoded < 30);
    // A request can be stopped between its images.
    let (run, _) = page.ask(CHAT, &body);
    page.give(run, Ok(a));
    page.runs.stop(&mut page.model.engine, run);
    assert!(page.runs.is_empty());
}

#[test]
fn images_are_encoded_in_parts_between_which_others_go_on_and_a_request_can_be_stopped() {
    let [a, _] = pixels();
    let message = user(json!([image(FILE), text("y")]));
    let want = Page::new().answer(CHAT, &chat(from_ref(&message)), from_ref(&a));
    let mut page = Page::new();
    page.encoder.set_slice(Some(1));
    let beside = with(&chat(&[user(json!("x"))]), json!({ "max_tokens": 30 }));
    let (other, _) = page.ask(CHAT, &beside);
    let (run, _) = page.ask(CHAT, &chat(from_ref(&message)));
    page.give(run, Ok(a.clone()));
    let (mut steps, mut last) = (0, 0);
    for _ in 0..10 {
        let Model { tokenizer, engine, .. } = &mut page.model;
        let host = Host { engine, encoder: Some(&mut page.encoder), tokenizer, now: &|| 0.0, sequences: &[] };
        let news = block_on(page.runs.next(host, &[other, run])).unwrap();
        assert!(news.iter().all(|n| !n.done));
        steps += news.iter().filter(|n| n.run == other).count();
        let of_image: Vec<_> = news.iter().filter(|n| n.run == run).flat_map(|n| &n.pieces).collect();
        let [piece @ Piece::Seen(Seen { phase: "image", done, total })] = of_image[..] else { panic!("{of_image:?}") };
        assert!(last < *done && done < total, "{last}, then {done} of {total}");
        let sent = json!({ "kind": "prefill", "phase": "image", "done": done, "total": total });
        assert_eq!(serde_json::to_value(piece).unwrap(), sent);
        last = *done;
    }
    assert_eq!((steps, page.encoded()), (10, 0), "a step of the other request for each part");
    page.runs.stop(&mut page.model.engine, run);
    assert_eq!(page.finish(other).0, 200);
    assert_eq!(page.encoded(), 0, "it was stopped");
    let got = page.answer(CHAT, &chat(from_ref(&message)), &[a]);
    assert_eq!((&got["choices"], page.encoded()), (&want["choices"], 1));
}

#[test]
fn parts_that_are_no_image_are_refused() {
    let model = sees();
    let refused = |part: Json, place: &str, words: &str| {
        let e = model.refused(CHAT, &chat(&[user(json!([text("a"), part]))]));
        let param = e.param.as_deref().unwrap_or_default();
        assert!(e.status == 400 && param == format!("messages[0].content[1]{place}"), "{param}: {}", e.message);
        assert!(e.message.contains(words), "{}", e.message);
    };
    refused(json!({ "type": "image" }), "", "image_url");
    refused(json!({ "type": "image_url" }), ".image_url", "missing");
    refused(json!({ "type": "image_url", "image_url": {} }), ".image_url.url", "missing");
    refused(json!({ "type": "input_image", "file_id": "file-1" }), ".file_id", "not stored");
    refused(image("data:image/png,abc"), ".image_url.url", "base64,...");
    refused(image("data:image/png;base64"), ".image_url.url", "base64,...");
    refused(image("data:image/png;base64,Zm9v!A"), ".image_url.url", "character 4");
    let detail = json!({ "type": "image_url", "image_url": { "url": FILE, "detail": "fine" } });
    refused(detail, ".image_url.detail", "\"low\"");
    let many = json!({ "messages": [user(json!(vec![image(FILE); 65]))] });
    assert_eq!(model.refused(CHAT, &many).param.as_deref(), Some("messages[0].content[64]"));
    let nowhere = open_with("qwen3vl", Some("{% for m in messages %}a{% endfor %}"), |_| {}, OPTIONS);
    let nowhere = Model { api: nowhere.api.with_images(), ..nowhere };
    let e = nowhere.refused(CHAT, &chat(&[user(json!([image(FILE)]))]));
    assert!(e.param.as_deref() == Some("messages") && e.message.contains("0 places"), "{}", e.message);
}

#[test]
fn models_of_text_refuse_images() {
    let e = open().refused(CHAT, &chat(&[user(json!([text("a"), image(FILE)]))]));
    assert_eq!((e.status, e.code, e.param.as_deref()), (400, Some("no-images"), Some("messages[0].content[1]")));
    assert!(e.message.contains("mmproj"), "{}", e.message);
    let parts = json!([{ "type": "input_image", "image_url": FILE }]);
    let e = open().refused(RESPONSES, &json!({ "input": [user(parts)] }));
    assert_eq!((e.code, e.param.as_deref()), (Some("no-images"), Some("input[0].content[0]")));
}
