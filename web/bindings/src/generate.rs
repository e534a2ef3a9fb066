//! Prompts, generations, and requests of OpenAI's API.

use js_sys::Function;
use pagelm::api::{Asked, Given, Host, Picture, PictureSource, Piece};
use pagelm::engine::GenerateParams;
use pagelm::image::Pixels;
use pagelm::text::template::{DateTime, parse_json};
use pagelm::text::{RenderOptions, chat_text, chat_variables};
use pagelm::{Error, ErrorKind};
use serde::Serialize;
use serde_json::value::RawValue;
use wasm_bindgen::prelude::*;

use crate::engine::{Engine, Ready};
use crate::slices::Slices;
use crate::value::{Problem, from_js, thrown, to_js};
use crate::{now_ms, options};

/// The answer to a request, or the number under which it runs and what there is of its response.
#[derive(Serialize)]
struct Requested {
    run: Option<u32>,
    pieces: Vec<Piece>,
    journal: Vec<u32>,
    /// The files of images for which it waits, in their order.
    pictures: Vec<FileOf>,
}

/// The file of an image: its bytes, or where it is.
#[derive(Serialize)]
struct FileOf {
    #[serde(with = "serde_wasm_bindgen::preserve")]
    bytes: JsValue,
    url: Option<String>,
}

impl From<&Picture> for FileOf {
    fn from(picture: &Picture) -> Self {
        match &picture.source {
            PictureSource::File(bytes) => Self { bytes: js_sys::Uint8Array::from(&**bytes).into(), url: None },
            PictureSource::Url(url) => {
                Self { bytes: js_sys::Uint8Array::new_with_length(0).into(), url: Some(url.clone()) }
            }
        }
    }
}

/// What a step brought to what runs under a number.
#[derive(Serialize)]
struct News<'a> {
    id: u32,
    pieces: &'a [Piece],
    journal: &'a [u32],
    done: bool,
    error: Option<Problem>,
}

#[wasm_bindgen]
impl Engine {
    /// The text of a conversation by the template of the model, up to the start of an answer.
    pub fn render(&self, chat: &JsValue) -> Result<String, JsValue> {
        let text = self.text()?;
        let template = text.template.as_ref().map_err(|e| thrown(e.clone()))?;
        let options::Chat { messages, tools, variables } = from_js("chat", chat)?;
        let json = |text: Box<RawValue>| parse_json(text.get()).map_err(thrown);
        let options = RenderOptions {
            tools: tools.map(json).transpose()?,
            add_generation_prompt: true,
            variables: variables.map_or(Ok(Vec::new()), |v| chat_variables(template, v.get())).map_err(thrown)?,
            now: Some(local_time(&js_sys::Date::new_0())),
            ..RenderOptions::default()
        };
        chat_text(template, text.tokenizer()?, &json(messages)?, options).map_err(thrown)
    }

    /// Adds a generation after a prompt to what runs, and returns its number. It goes on from what the cache has of the
    /// prompt, in sessions too, and from its own journal on an engine that is gone: then there is no number if it was over.
    pub fn generate(&mut self, ids: Vec<u32>, params: &JsValue, replay: &[u32]) -> Result<Option<u32>, JsValue> {
        let params: GenerateParams = from_js("parameters", params)?;
        let (Ready { engine, runs, sessions, .. }, tokenizer, _) = self.parts()?;
        let sequences = &sessions.sequences();
        let host = Host { engine, encoder: None, tokenizer, now: &now_ms, sequences };
        runs.generate(host, &ids, params, replay).map_err(thrown)
    }

    /// Takes a request. `given` is the time in milliseconds and random numbers, of which all ids in the answer are made, and
    /// its seed if it names none. It goes on from its journal on an engine that is gone.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        given: &[f64],
        replay: &[u32],
    ) -> Result<JsValue, JsValue> {
        let [now, random @ ..] = given else {
            return Err(thrown(Error::new(ErrorKind::InvalidArgument, "a request needs the time")));
        };
        let random = random.iter().map(|n| *n as u32);
        let id: String = random.clone().map(|n| format!("{n:08x}")).collect();
        let seed = random.fold(0, |seed: u64, n| seed << 32 | u64::from(n));
        let date = local_time(&js_sys::Date::new(&(*now).into()));
        let given = Given { now: (*now / 1000.0) as u64, id, seed, date: Some(date) };
        let (Ready { engine, encoder, runs, sessions }, tokenizer, api) = self.parts()?;
        let api = api.map_err(|e| thrown(e.clone()))?;
        let sequences = &sessions.sequences();
        let host = Host { engine, encoder: encoder.as_mut(), tokenizer, now: &now_ms, sequences };
        let asked = runs.request(host, api, (method, path, body.as_bytes()), &given, replay);
        let Asked { run, pieces, journal } = asked.map_err(thrown)?;
        let pictures = run.map_or(&[][..], |run| runs.pictures(run)).iter().map(FileOf::from).collect();
        to_js(&Requested { run, pieces, journal, pictures })
    }

    /// The next image of a request: its pixels, red, green, blue and alpha. A request that is over takes nothing.
    pub fn picture(&mut self, run: u32, width: usize, height: usize, rgba: &[u8]) -> Result<(), JsValue> {
        let Ready { encoder, runs, .. } = self.ready()?;
        runs.picture(encoder.as_ref(), run, Pixels::new(width, height, rgba));
        Ok(())
    }

    /// The reason why there is no image in its place.
    #[wasm_bindgen(js_name = noPicture)]
    pub fn no_picture(&mut self, run: u32, problem: String) -> Result<(), JsValue> {
        let Ready { encoder, runs, .. } = self.ready()?;
        runs.picture(encoder.as_ref(), run, Err(Error::new(ErrorKind::BadImage, problem)));
        Ok(())
    }

    /// One step of what runs under these numbers: what it brought to which. Nothing if none can run, or if `pause` gave the step
    /// up. After an error this engine is of no use any more.
    pub async fn next(&mut self, wanted: Vec<u32>, pause: Function) -> Result<JsValue, JsValue> {
        let (Ready { engine, encoder, runs, sessions }, tokenizer, _) = self.parts()?;
        let slices = Slices::of(engine, &pause);
        let sequences = &sessions.sequences();
        let host = Host { engine, encoder: encoder.as_mut(), tokenizer, now: &now_ms, sequences };
        let news = slices.run(runs.next(host, &wanted)).await?;
        let news = news.unwrap_or_else(|| Ok(Vec::new())).map_err(thrown)?;
        let news = news.iter().map(|n| News {
            id: n.run,
            pieces: &n.pieces,
            journal: &n.journal,
            done: n.done,
            error: n.error.as_ref().map(Problem::from),
        });
        to_js(&news.collect::<Vec<_>>())
    }

    /// Ends what runs under a number, if it is not over.
    pub fn stop(&mut self, id: u32) -> Result<(), JsValue> {
        let Ready { engine, runs, .. } = self.ready()?;
        runs.stop(engine, id);
        Ok(())
    }
}

/// The time that the user's clock shows.
fn local_time(d: &js_sys::Date) -> DateTime {
    DateTime {
        year: d.get_full_year() as u16,
        month: d.get_month() as u8 + 1,
        day: d.get_date() as u8,
        hour: d.get_hours() as u8,
        minute: d.get_minutes() as u8,
        second: d.get_seconds() as u8,
    }
}
