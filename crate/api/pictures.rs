//! Images of a request: a host decodes them, and a prompt has a place for each.

use serde_json::{Value, json};

use super::base64;
use super::error::ApiError;
use super::fields::{At, Result};
use crate::error::Error;

/// Far above what a context has room for, as each takes some positions of it.
const MOST: usize = 64;

/// Of the file of an image: of one that is larger, nothing is decoded.
const MOST_BYTES: usize = 64 << 20;

/// Pixels with `"detail": "low"`, as OpenAI's API has it: 512 along each side.
const LOW: usize = 512 * 512;

/// An image that a host is to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Where it stands in the request.
    pub path: String,
    /// Where its file is.
    pub source: PictureSource,
    /// What it is made smaller to, where it has more pixels.
    pub max_pixels: Option<usize>,
}

/// Where the file of an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PictureSource {
    /// These are its bytes.
    File(Vec<u8>),
    /// Elsewhere. A host decides what it fetches, if anything.
    Url(String),
}

impl Picture {
    /// What the client is told if its image cannot be had.
    pub fn refuse(&self, detail: impl std::fmt::Display) -> ApiError {
        ApiError { code: Some("bad-image"), ..ApiError::invalid(&self.path, detail) }
    }

    /// The same where an image is the reason for an error.
    pub fn failed(&self, e: Error) -> ApiError {
        let ApiError { status, code, message, .. } = ApiError::from(e);
        ApiError { status, code, ..ApiError::invalid(&self.path, format_args!("cannot be read: {message}")) }
    }
}

/// The images of a request, in their order.
pub(super) struct Pictures {
    /// Whether the model takes any.
    allowed: bool,
    pub(super) list: Vec<Picture>,
}

impl Pictures {
    pub(super) fn new(allowed: bool) -> Self {
        Self { allowed, list: Vec::new() }
    }

    /// The content of a message, with a part without a picture in place of each that has one.
    pub(super) fn content(&mut self, at: &At<'_>, warnings: &mut Vec<String>) -> Result<Value> {
        if !at.value.is_array() {
            return Ok(at.value.clone());
        }
        at.list("parts")?.iter().map(|part| self.part(part, warnings)).collect()
    }

    fn part(&mut self, at: &At<'_>, warnings: &mut Vec<String>) -> Result<Value> {
        match at.value["type"].as_str() {
            Some("image_url" | "input_image") => self.add(at, warnings),
            // What templates call it.
            Some("image") => Err(at.refuse("must be of type `text` or `image_url`")),
            _ => Ok(at.value.clone()),
        }
    }

    /// Takes note of an image.
    pub(super) fn add(&mut self, at: &At<'_>, warnings: &mut Vec<String>) -> Result<Value> {
        if !self.allowed {
            let detail = "is an image, and this model is served for text only; load the part of it that sees (mmproj), or \
                          leave the image out";
            return Err(ApiError { code: Some("no-images"), ..at.refuse(detail) });
        }
        if self.list.len() == MOST {
            return Err(at.refuse(format_args!("is image number {}; at most {MOST} are read", MOST + 1)));
        }
        let mut f = at.object()?;
        f.take("type");
        f.only("file_id", |_| false, "is not supported: files are not stored; send the image as `image_url`")?;
        let image = f.need("image_url")?;
        let (url, detail) = match image.value {
            // As `/v1/responses` has it.
            Value::String(_) => (image, f.take("detail")),
            _ => {
                let mut f = image.object()?;
                let found = (f.need("url")?, f.take("detail"));
                f.rest(warnings);
                found
            }
        };
        f.rest(warnings);
        let detail = detail.map(|at| at.one_of(&["auto", "low", "high"])).transpose()?;
        let max_pixels = (detail == Some("low")).then_some(LOW);
        self.list.push(Picture { path: url.path.clone(), source: source(&url)?, max_pixels });
        Ok(json!({ "type": "image" }))
    }
}

/// The file of a `data:` URL, or the URL.
fn source(at: &At<'_>) -> Result<PictureSource> {
    let url = at.string()?;
    let is_data = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    if !is_data {
        return Ok(PictureSource::Url(url.to_string()));
    }
    let refuse = |detail: &str| ApiError { code: Some("bad-image"), ..at.refuse(detail) };
    let form = "must have the form `data:image/png;base64,...`";
    let (head, data) = url[5..].split_once(',').ok_or_else(|| refuse(form))?;
    if !head.to_ascii_lowercase().ends_with(";base64") {
        return Err(refuse(form));
    }
    if data.len() / 4 * 3 > MOST_BYTES {
        return Err(refuse(&format!("has more than {} MiB; make the image smaller", MOST_BYTES >> 20)));
    }
    let bytes =
        base64::decode(data).map_err(|i| refuse(&format!("is no base64: character {i} of the data is wrong")))?;
    Ok(PictureSource::File(bytes))
}
