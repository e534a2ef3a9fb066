//! Images, from pixels to rows: the part of a model that sees, on a backend of its own.

use std::future::poll_fn;

use super::images::{Image, ImageRows};
use super::model::{memory_of, write_weights};
use super::{Engine, Loader, Model};
use crate::arch::{self, CORNERS, Vision};
use crate::backend::{Backend, KvType, Limits, Memory, Segment, Slice, Step};
use crate::bail;
use crate::dtype::DType;
use crate::error::Result;
use crate::gguf::{Gguf, Source};
use crate::graph::{Entry, Plan};
use crate::image::{Cut, Filter, PixelRange, Pixels, fitted, patches, resize};

/// How an image is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisionOptions {
    /// The most rows of an image. Each is a position of the language model's context, and what the encoder holds grows with
    /// them.
    pub max_rows: usize,
    /// Ignores metadata keys and tensors that the engine does not know.
    pub allow_unknown: bool,
}

impl Default for VisionOptions {
    fn default() -> Self {
        Self { max_rows: 1024, allow_unknown: false }
    }
}

/// The fewest rows of an image where the file does not say it: smaller images are made larger.
const LEAST_ROWS: usize = 8;

/// The part of a model that sees, before its weights have arrived.
#[derive(Clone, Debug)]
pub struct VisionModel {
    /// What the backend prepares.
    pub plan: Plan,
    /// The sizes that it is prepared for.
    pub limits: Limits,
    /// The bytes of the file that it needs.
    pub loader: Loader,
    processor: Processor,
}

impl VisionModel {
    /// Reads the configuration. Finds everything that is wrong with it before any weight is fetched.
    pub fn new(gguf: &Gguf, supports: &dyn Fn(DType) -> bool, options: &VisionOptions) -> Result<Self> {
        let (graph, vision) = arch::vision(gguf, supports, options.allow_unknown)?;
        if !(1..=1 << 14).contains(&options.max_rows) {
            bail!(InvalidArgument, "an image may have 1 to {} rows, not {}", 1 << 14, options.max_rows);
        }
        let of_row = vision.patch * vision.merge * vision.patch * vision.merge;
        let most = vision.pixels[1].unwrap_or(usize::MAX).min(options.max_rows * of_row);
        let least = vision.pixels[0].unwrap_or(LEAST_ROWS * of_row).min(most);
        let side = vision.patch * vision.merge;
        let all = vision.square.map(|square| (square / side) * (square / side));
        if let Some(n) = all.filter(|n| *n > options.max_rows) {
            bail!(InvalidArgument, "each image has {n} rows, and {} are allowed; allow more", options.max_rows);
        }
        let max_rows = all.unwrap_or(options.max_rows);
        let max_tokens = max_rows * vision.merge * vision.merge;
        let limits = Limits { max_outputs: max_rows, ..Limits::one(max_tokens, max_tokens, KvType::F32) };
        let loader = Loader::new(gguf, &graph);
        let range = PixelRange { least, most: most.max(of_row) };
        let processor = Processor { vision, range, max_rows, fingerprint: gguf.fingerprint() };
        Ok(Self { plan: Plan::new(graph), limits, loader, processor })
    }

    /// What it takes, with images of the most rows.
    pub fn memory(&self) -> Memory {
        memory_of(&self.plan, self.limits)
    }

    /// Refuses a language model that does not take such rows.
    pub fn check(&self, model: &Model) -> Result<()> {
        let (have, want) = (self.processor.vision.columns(), model.plan.graph.given_columns());
        if have != want {
            bail!(
                InvalidArgument,
                "it makes rows of {have} values, and the model takes {want}; use the one of this model"
            );
        }
        let g = &model.plan.graph;
        if g.is_causal(Entry::Given) == self.processor.vision.square.is_some() {
            bail!(InvalidArgument, "it is for models that read images in another way; use the one of this model");
        }
        let (n, room) = (self.limits.max_outputs, model.limits.max_tokens.min(g.window().unwrap_or(usize::MAX)));
        if !g.is_causal(Entry::Given) && n > room {
            bail!(
                InvalidArgument,
                "the {n} rows of an image see each other, and the model has room for {room}; give it a longer context, or \
                 use the encoder of this model"
            );
        }
        Ok(())
    }

    /// Loads all weights of the header from the source of its tensors.
    pub fn load(mut self, gguf: &Gguf, source: &dyn Source, mut backend: Box<dyn Backend>) -> Result<Encoder> {
        write_weights((&self.plan, self.limits, &mut self.loader), gguf, source, &mut *backend)?;
        self.finish(backend)
    }

    /// The encoder on a backend that was prepared with this plan and has all weights.
    pub fn finish(self, mut backend: Box<dyn Backend>) -> Result<Encoder> {
        self.loader.finish()?;
        backend.finish_weights()?;
        Ok(Encoder { backend, processor: self.processor, running: None, unread: None, slice: None })
    }
}

/// Brings images to what an encoder reads. It needs no backend, so another thread may do it.
#[derive(Clone, Debug)]
pub struct Processor {
    vision: Vision,
    range: PixelRange,
    max_rows: usize,
    fingerprint: u64,
}

/// An image of a size that an encoder reads.
#[derive(Clone, Debug)]
pub struct Processed {
    pixels: Pixels<'static>,
    /// Rows along and down the image.
    rows: [usize; 2],
    digest: u128,
}

impl Processed {
    /// Which rows it has, without making them: an engine may have them already.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// How many rows it has: positions of the context.
    pub fn rows(&self) -> usize {
        self.rows[0] * self.rows[1]
    }
}

impl Processor {
    /// An image in the size that the model reads, which may be bounded further, to about so many pixels.
    pub fn process(&self, image: &Pixels<'_>, max_pixels: Option<usize>) -> Result<Processed> {
        let factor = self.vision.patch * self.vision.merge;
        if let Some(square) = self.vision.square {
            let rows = square / factor;
            return self.processed(resize(image, [square; 2], Filter::Bilinear)?, [rows; 2]);
        }
        let most = max_pixels.map_or(self.range.most, |most| most.clamp(factor * factor, self.range.most));
        let range = PixelRange { least: self.range.least.min(most), most };
        let [height, width] = fitted(image.height(), image.width(), factor, range)?;
        let rows = [width / factor, height / factor];
        if rows[0] * rows[1] > self.max_rows {
            // The shortest side cannot shrink further.
            let (n, most) = (rows[0] * rows[1], self.max_rows);
            bail!(BadImage, "an image of this shape has {n} rows, at most {most} fit; crop it, or allow more rows");
        }
        self.processed(resize(image, [height, width], Filter::Bicubic)?, rows)
    }

    fn processed(&self, pixels: Pixels<'static>, rows: [usize; 2]) -> Result<Processed> {
        let digest = pixels.digest() ^ u128::from(self.fingerprint) << 32;
        Ok(Processed { pixels, rows, digest })
    }
}

/// Makes rows of images, for the language model that was trained with it.
pub struct Encoder {
    backend: Box<dyn Backend>,
    processor: Processor,
    running: Option<Running>,
    /// Values of a part of a step that was submitted but not read: a caller dropped its future.
    unread: Option<usize>,
    /// The work of a part.
    slice: Option<u64>,
}

/// An image that is being encoded.
struct Running {
    digest: u128,
    given: Vec<f32>,
    /// What was submitted of it.
    at: Slice,
}

/// What came of a part of the encoding of an image.
#[derive(Clone, Debug)]
pub enum Seeing<T> {
    /// So much of it is done.
    Part {
        /// Rows of ops that have run.
        done: u64,
        /// All of them.
        total: u64,
    },
    /// All of it.
    Whole(T),
}

impl Encoder {
    /// The backend that it owns.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// What images are cut into.
    pub fn vision(&self) -> &Vision {
        &self.processor.vision
    }

    /// What brings images to the size that it reads.
    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    /// Bounds the multiply-adds of a part, whatever time that takes; without, a part takes about a twentieth of a second.
    pub fn set_slice(&mut self, work: Option<u64>) {
        self.slice = work;
    }

    /// The rows of an image.
    pub async fn encode(&mut self, image: &Processed) -> Result<ImageRows> {
        loop {
            if let Seeing::Whole(rows) = self.encode_part(image).await? {
                return Ok(rows);
            }
        }
    }

    /// Encodes the next part of an image. Another image, if one was begun before it, is given up.
    pub async fn encode_part(&mut self, image: &Processed) -> Result<Seeing<ImageRows>> {
        let part = self.run_part(image).await;
        match part {
            Ok(Seeing::Part { .. }) => {}
            _ => self.running = None,
        }
        part
    }

    async fn run_part(&mut self, image: &Processed) -> Result<Seeing<ImageRows>> {
        let Vision { patch, merge, side, mean, std, square, .. } = self.processor.vision;
        let [width, height] = image.rows;
        let begun = self.running.take().filter(|running| running.digest == image.digest);
        if begun.is_none() {
            self.read().await?;
        }
        let running = self.running.insert(begun.unwrap_or_else(|| {
            let given = patches(&image.pixels, &Cut { patch, merge, side, mean, std });
            debug_assert_eq!(given.len(), image.rows() * merge * merge * (3 * patch * patch + 2 * CORNERS));
            Running { digest: image.digest, given, at: Slice { next: 0, of: u64::MAX } }
        }));
        if self.unread.is_none() {
            let tokens = vec![0; image.rows() * merge * merge];
            let mut segment = Segment::alone(&tokens, 0, image.rows());
            segment.place.width = width * merge;
            let step = Step { segments: &[segment], given: &running.given, ..Step::trunk(&[]) };
            running.at = self.backend.submit_slice(&step, running.at.next, self.slice)?;
            let columns = self.processor.vision.columns();
            self.unread = Some(if running.at.is_last() { image.rows() * columns } else { 0 });
        }
        let at = running.at;
        let values = self.read().await?;
        if !at.is_last() {
            return Ok(Seeing::Part { done: at.next, total: at.of });
        }
        if values.iter().any(|v| !v.is_finite()) {
            bail!(DegenerateLogits, "the encoder made rows that are not finite: a kernel or a file is broken");
        }
        // What a language model that reads them like text needs to know.
        let [width, height] = if square.is_some() { [0, width * height] } else { [width, height] };
        Ok(Seeing::Whole(ImageRows { digest: image.digest, width, height, values }))
    }

    /// The image for an engine, which may know it already.
    pub async fn see(&mut self, engine: &mut Engine, image: &Processed) -> Result<Image> {
        loop {
            if let Seeing::Whole(image) = self.see_part(engine, image).await? {
                return Ok(image);
            }
        }
    }

    /// Encodes the next part of an image, so that a caller can do other things before the one after it, or give it up.
    pub async fn see_part(&mut self, engine: &mut Engine, image: &Processed) -> Result<Seeing<Image>> {
        // Before any work, in case the model cannot take it.
        if let Some(known) = engine.image(image.digest)? {
            return Ok(Seeing::Whole(known));
        }
        Ok(match self.encode_part(image).await? {
            Seeing::Part { done, total } => Seeing::Part { done, total },
            Seeing::Whole(rows) => Seeing::Whole(engine.add_image(rows)?),
        })
    }

    /// What the last part made, if it was not read yet.
    async fn read(&mut self) -> Result<Vec<f32>> {
        let Some(n) = self.unread else { return Ok(Vec::new()) };
        let mut values = vec![0.0; n];
        let result = poll_fn(|cx| self.backend.poll_logits(cx, &mut values)).await;
        self.unread = None;
        result.map(|()| values)
    }
}
