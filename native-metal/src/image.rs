//! Images from files, and the encoder that reads them.

use std::fs::File;
use std::io::{Cursor, IsTerminal, Read};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageReader};
use pagelm::api::{ApiError, Picture, PictureSource};
use pagelm::engine::{Encoder, Image, Processed, Processor, Seeing, Session, VisionModel, VisionOptions, place_images};
use pagelm::image::{MAX_PIXELS, Pixels};
use pagelm::text::Tokenizer;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;

use crate::device::Device;
use crate::source;

/// The largest file that is decoded.
const MAX_BYTES: u64 = 64 << 20;

#[derive(clap::Args)]
pub struct EncoderArgs {
    /// The part of the model that sees images: the file beside that of the language model, often named mmproj.
    #[arg(long, value_name = "FILE")]
    pub mmproj: Option<PathBuf>,
    /// The most rows of an image: each takes a position of the context.
    #[arg(long, value_name = "N", default_value_t = VisionOptions::default().max_rows)]
    image_rows: usize,
}

impl EncoderArgs {
    /// Loads it, if there is one, on the device of its model.
    pub fn open(&self, device: Device, allow_unknown: bool) -> Result<Option<Encoder>> {
        let options = VisionOptions { max_rows: self.image_rows, allow_unknown };
        self.mmproj.as_ref().map(|path| open(path, device, &options)).transpose()
    }
}

#[derive(clap::Args)]
pub struct ImageArgs {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// An image (PNG, JPEG or WebP) before the text of the prompt; may be given more than once. Without --chat, the prompt says
    /// where, as the model's template would: <|vision_start|><|image_pad|><|vision_end|>, or <start_of_image> for Gemma 3.
    #[arg(long, value_name = "FILE", requires = "mmproj")]
    image: Vec<PathBuf>,
}

impl ImageArgs {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.image.len()
    }

    /// Puts the images into a prompt. They are to be kept until it has run.
    pub fn place(
        &self,
        session: &mut Session,
        tokenizer: &Tokenizer,
        (device, allow_unknown): (&Device, bool),
        prompt: Vec<u32>,
    ) -> Result<(Vec<u32>, Vec<Image>)> {
        // What cannot be read is found before the encoder is loaded.
        let decoded = self.image.iter().map(|path| decode(path)).collect::<Result<Vec<_>>>()?;
        let Some(mut encoder) =
            (if decoded.is_empty() { None } else { self.encoder.open(device.beside(), allow_unknown)? })
        else {
            return Ok((prompt, Vec::new()));
        };
        let of = decoded.len();
        let mut see = |(i, image)| {
            let image = encoder.processor().process(image, None)?;
            loop {
                match block_on(encoder.see_part(session.engine(), &image))? {
                    Seeing::Part { done, total } => progress(i, of, done * 100 / total),
                    Seeing::Whole(image) => return Ok(image),
                }
            }
        };
        let see = |(i, (path, image)): (usize, (&PathBuf, _))| see((i, image)).map_err(|e: Error| e.at(path.display()));
        let images = self.image.iter().zip(&decoded).enumerate().map(see).collect::<Result<Vec<_>>>();
        progress(of, of, 100);
        let images = images?;
        Ok((place_images(tokenizer, &prompt, &images)?, images))
    }
}

/// Says how much of image `i` of `of` is encoded, where somebody looks; after the last one it clears that.
fn progress(i: usize, of: usize, percent: u64) {
    if std::io::stderr().is_terminal() {
        let text = if i < of { format!("image {} of {of}: {percent} %", i + 1) } else { String::new() };
        eprint!("\r{text:<40}\r");
    }
}

/// An image of a request, as an encoder reads it.
pub fn process(picture: &Picture, processor: &Processor) -> std::result::Result<Processed, ApiError> {
    let PictureSource::File(bytes) = &picture.source else {
        let detail =
            "is no `data:` URL; this server fetches nothing: send the image itself, as `data:image/png;base64,...`";
        return Err(picture.refuse(detail));
    };
    let processed = pixels(bytes).and_then(|image| processor.process(&image, picture.max_pixels));
    processed.map_err(|e| picture.failed(e))
}

/// Loads an encoder on a device, or on the one to fall back to where a GPU refuses it.
pub fn open(path: &Path, device: Device, options: &VisionOptions) -> Result<Encoder> {
    let file = source::open(path)?;
    let settings = device.settings.clone();
    let load = |device: Device| {
        let backend = device.backend.boxed();
        let model = VisionModel::new(&file.gguf, &|d| backend.supports(d), options)?;
        model.load(&file.gguf, &*file.source, backend)
    };
    let loaded = load(device).or_else(|e| settings.fall_back(&e).map_or(Err(e), load));
    loaded.map_err(|e| e.at(path.display()))
}

/// The pixels of a file, turned as its camera was held.
fn decode(path: &Path) -> Result<Pixels<'static>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| Error::new(ErrorKind::Io, format!("cannot be read: {e}")).at(path.display()))?;
    pixels(&bytes).map_err(|e| e.at(path.display()))
}

fn pixels(bytes: &[u8]) -> Result<Pixels<'static>> {
    let bad = |what: String| Error::new(ErrorKind::BadImage, what);
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad(format!("has more than {} MiB; make it smaller", MAX_BYTES >> 20)));
    }
    let wrong = |e: image::ImageError| bad(format!("is no image that can be read (PNG, JPEG, WebP): {e}"));
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(e.to_string()))?;
    // Decoders may need the image a few times over.
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(16 * MAX_PIXELS as u64);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS as u64 {
        return Err(bad(format!("has {width} x {height} pixels, at most {MAX_PIXELS} are decoded; make it smaller")));
    }
    let turned = decoder.orientation().map_err(wrong)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    image.apply_orientation(turned);
    let image = image.into_rgba8();
    Pixels::new(image.width() as usize, image.height() as usize, image.into_raw())
}
