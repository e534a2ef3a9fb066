//! How sequences take images in.

use super::images::{FIRST_ID, Image, ImageRows, Stretch};
use super::{Engine, Row, Sequence};
use crate::backend::{Place, Step};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Entry;
use crate::text::Tokenizer;

/// The tokens that stand for an image in the prompts of chat templates, by model family. Rows take the place of the token; where
/// another one is named here, they stand between both, and these in a paragraph of their own.
const PLACEHOLDERS: [(&str, Option<&str>); 2] = [("<|image_pad|>", None), ("<start_of_image>", Some("<end_of_image>"))];

/// The token, and the one at the end of rows.
fn placeholder(tokenizer: &Tokenizer) -> Option<(u32, Option<u32>)> {
    let known = |(start, end): &(&str, Option<&str>)| {
        let end = end.map(|end| tokenizer.marker(end));
        // With one of the two, it stands for something else.
        if end == Some(None) { None } else { Some((tokenizer.marker(start)?, end.flatten())) }
    };
    PLACEHOLDERS.iter().find_map(known)
}

/// For how many images a prompt has a place.
pub fn image_places(tokenizer: &Tokenizer, prompt: &[u32]) -> usize {
    let placeholder = placeholder(tokenizer);
    prompt.iter().filter(|id| placeholder.is_some_and(|(start, _)| start == **id)).count()
}

/// Puts images where a prompt has a placeholder for each.
pub fn place_images(tokenizer: &Tokenizer, prompt: &[u32], images: &[Image]) -> Result<Vec<u32>> {
    let (placeholder, places) = (placeholder(tokenizer), image_places(tokenizer, prompt));
    if places != images.len() {
        bail!(
            InvalidArgument,
            "the prompt has {places} places for {} images; each needs one, which chat templates of models that see write",
            images.len()
        );
    }
    let mut rest = images.iter();
    let mut placed = Vec::with_capacity(prompt.len());
    let mut ids = prompt.iter().copied().peekable();
    while let Some(id) = ids.next() {
        let place = placeholder.filter(|(start, _)| *start == id);
        let Some((_, end)) = place else {
            placed.push(id);
            continue;
        };
        let image = rest.next().expect("there are as many places");
        let Some(end) = end else {
            placed.extend_from_slice(image.tokens());
            continue;
        };
        let mut before = 2;
        while let Some(n) = placed.last().and_then(|id| newlines(tokenizer, *id)) {
            before += n;
            placed.pop();
        }
        placed.extend(tokenizer.encode_more(&"\n".repeat(before))?);
        placed.push(id);
        placed.extend_from_slice(image.tokens());
        placed.push(end);
        let mut after = 2;
        while let Some(n) = ids.peek().and_then(|id| newlines(tokenizer, *id)) {
            after += n;
            ids.next();
        }
        placed.extend(tokenizer.encode_more(&"\n".repeat(after))?);
    }
    Ok(placed)
}

/// How many newlines a token is, if it is nothing else: vocabularies have tokens for several.
fn newlines(tokenizer: &Tokenizer, id: u32) -> Option<usize> {
    let piece = tokenizer.piece(id, true)?;
    (!piece.is_empty() && piece.iter().all(|byte| *byte == b'\n')).then_some(piece.len())
}

impl Engine {
    /// Whether an id stands for a row of an image.
    pub(super) fn is_of_image(&self, id: u32) -> bool {
        self.given_columns > 0 && id >= FIRST_ID
    }

    /// Adds an image, so that its tokens can run.
    pub fn add_image(&mut self, rows: ImageRows) -> Result<Image> {
        self.sees()?;
        let n = ImageRows::count(rows.width, rows.height);
        if n == 0 || n > self.limits.n_ctx {
            let n_ctx = self.limits.n_ctx;
            bail!(
                ContextOverflow,
                "an image of {n} rows does not fit in a context of {n_ctx}; allow fewer rows of an image"
            );
        }
        if (rows.width == 0) != self.whole_images {
            bail!(InvalidArgument, "the model reads rows of images in another way; use the encoder of this model");
        }
        let room = self.limits.max_tokens.min(self.past.window.unwrap_or(usize::MAX));
        if self.whole_images && n > room {
            bail!(InvalidArgument, "an image of {n} rows does not fit in a step or a window of {room}");
        }
        if rows.values.len() != n * self.given_columns {
            let (got, want) = (rows.values.len() / n, self.given_columns);
            bail!(
                InvalidArgument,
                "the rows of the image have {got} values, those of the model {want}; use the encoder of this model"
            );
        }
        // Only one image has such ids.
        if let Some(known) = self.image(rows.digest)? {
            return Ok(known);
        }
        let image = Image::new(rows);
        self.images.add(&image);
        Ok(image)
    }

    /// The image with this digest, if somebody keeps it.
    pub fn image(&self, digest: u128) -> Result<Option<Image>> {
        self.sees()?;
        Ok(self.images.known().find(|image| image.rows().digest == digest))
    }

    fn sees(&self) -> Result<()> {
        if self.given_columns == 0 {
            bail!(
                NoImages,
                "the model reads text only, or was opened without `images`; open it with them, or use one that sees"
            );
        }
        Ok(())
    }

    /// The first stretch of some tokens, which are not none.
    pub(super) fn stretch(&self, tokens: &[u32]) -> Result<Stretch> {
        let text = tokens.iter().take_while(|id| !self.is_of_image(**id)).count();
        if text > 0 {
            return Ok(Stretch { len: text, image: None });
        }
        let Some((image, row, len)) = self.images.find(tokens) else {
            bail!(TokenOutOfRange, "token {} is no row of an image that is kept; add the image again", tokens[0]);
        };
        Ok(Stretch { len, image: Some((image, row)) })
    }

    /// The images that are among some tokens, for whoever keeps them until these have run.
    pub(super) fn images_in(&self, mut tokens: &[u32]) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        while !tokens.is_empty() {
            let Stretch { len, image } = self.stretch(tokens)?;
            images.extend(image.map(|(image, _)| image));
            tokens = &tokens[len..];
        }
        Ok(images)
    }

    /// Where the last stretch of some tokens begins.
    pub(super) fn last_stretch(&self, tokens: &[u32]) -> usize {
        let text = tokens.iter().rev().take_while(|id| !self.is_of_image(**id)).count();
        let image = tokens.iter().rev().take_while(|id| self.is_of_image(**id)).count();
        tokens.len() - text.max(image)
    }

    /// Refuses tokens of images that are not known or not whole. The first may go on from an image before them, and the
    /// last may end inside of one.
    pub(super) fn check_images(&self, ids: &[u32]) -> Result<()> {
        let mut at = 0;
        while at < ids.len() {
            let Stretch { len, image } = self.stretch(&ids[at..])?;
            if let Some((image, row)) = image {
                let cut = at + len == ids.len() && !self.whole_images;
                let (starts, ends) = (row == 0 || at == 0, row + len == image.tokens().len() || cut);
                if !(starts && ends) {
                    let e = Error::new(
                        ErrorKind::InvalidArgument,
                        "an image must be whole, with all of its tokens in order",
                    );
                    return Err(e.at(format!("token {} at index {at}", ids[at])));
                }
            }
            at += len;
        }
        Ok(())
    }

    /// How many of some tokens a step may take, at most `n`: it does not end inside of an image whose rows see each other.
    pub(super) fn cut(&self, tokens: &[u32], n: usize) -> usize {
        if !self.whole_images || !tokens.get(n).is_some_and(|id| self.is_of_image(*id)) {
            return n.min(tokens.len());
        }
        let mut at = 0;
        while at < n {
            match self.stretch(&tokens[at..]) {
                Ok(Stretch { len, .. }) if at + len <= n => at += len,
                // Tokens that are not known are refused elsewhere.
                _ => break,
            }
        }
        at
    }

    /// Runs the images of what a row runs, and the text before them, in steps of their own: what is left of it is text, or
    /// nothing. What has run stays if a later step fails.
    pub(super) async fn run_images(&mut self, r: &mut Row<'_>) -> Result<()> {
        let of_image = r.tokens.iter().rposition(|id| self.is_of_image(*id));
        let Some(end) = of_image.map(|last| last + 1) else { return self.at_text(r.sequence) };
        let wanted = r.outputs.saturating_sub(r.tokens.len() - end);
        if wanted > 0 && self.stretch(r.tokens)?.len < r.tokens.len() {
            bail!(
                InvalidArgument,
                "rows of logits of an image and of other tokens; run the image in a step of its own"
            );
        }
        let (mut before, after) = r.tokens.split_at(end);
        while !before.is_empty() {
            let stretch = self.stretch(before)?;
            let (tokens, rest) = before.split_at(stretch.len);
            self.run_stretch(r.sequence, tokens, wanted, stretch.image).await?;
            before = rest;
        }
        (r.tokens, r.outputs) = (after, r.outputs - wanted);
        Ok(())
    }

    async fn run_stretch(
        &mut self,
        s: &mut Sequence,
        tokens: &[u32],
        outputs: usize,
        image: Option<(Image, usize)>,
    ) -> Result<()> {
        self.ready(s, tokens.len()).await?;
        self.abandon();
        self.drain().await?;
        match image {
            None => self.at_text(s)?,
            Some((image, row)) => s.show(image, row)?,
        }
        self.begin_states(s, 1)?;
        let (entry, given) = s.given(s.tokens.len(), tokens.len());
        let step = Step { segments: &[s.segment(tokens, s.tokens.len(), outputs)], entry, given };
        self.submit_and_read(&step).await?;
        s.end_states(0);
        s.tokens.extend_from_slice(tokens);
        self.settle(s);
        Ok(())
    }

    /// Refuses text after a part of an image.
    fn at_text(&self, s: &Sequence) -> Result<()> {
        if s.in_image(s.tokens.len()).is_some_and(|(start, _)| start < s.tokens.len()) {
            bail!(
                InvalidArgument,
                "the sequence ends inside of an image; go on with its tokens, or roll back to before it"
            );
        }
        Ok(())
    }
}

impl Sequence {
    /// Notes that row `row` of an image comes next, and those after it.
    fn show(&mut self, image: Image, row: usize) -> Result<()> {
        let at = self.tokens.len();
        match self.in_image(at) {
            Some((start, now)) if start + row == at && now.is(&image) => {}
            None if row == 0 => self.images.push((at, image)),
            _ => bail!(InvalidArgument, "the tokens of an image must follow each other, from its first on"),
        }
        Ok(())
    }

    /// The image that the token at a position is of, and where that starts.
    fn in_image(&self, pos: usize) -> Option<(usize, &Image)> {
        let (start, image) = self.images.iter().rev().find(|(start, _)| *start <= pos)?;
        (pos < start + image.tokens().len()).then_some((*start, image))
    }

    /// The coordinates of tokens from a position on, up to the end of their stretch.
    pub(super) fn place(&self, pos: usize) -> Place {
        let before = self.images.iter().filter(|(start, image)| start + image.tokens().len() <= pos);
        let behind = before.map(|(_, image)| image.behind()).sum();
        match self.in_image(pos) {
            Some((start, image)) => Place { behind, start, width: image.rows().width },
            None => Place { behind, ..Place::default() },
        }
    }

    /// The end of the stretch that the token at a position is in, at most `end`.
    pub(super) fn stretch_end(&self, pos: usize, end: usize) -> usize {
        let next = self.images.iter().map(|(start, _)| *start).find(|start| *start > pos);
        let of_image = self.in_image(pos).map(|(start, image)| start + image.tokens().len());
        next.into_iter().chain(of_image).fold(end, usize::min)
    }

    /// The tokens of an image from a position in it on.
    pub(super) fn rest_of_image(&self, pos: usize) -> Option<Vec<u32>> {
        self.in_image(pos).map(|(start, image)| image.tokens()[pos - start..].to_vec())
    }

    /// The part of the model that runs the `n` tokens from a position on, which are of one stretch, and the rows that it is
    /// given.
    pub(super) fn given(&self, pos: usize, n: usize) -> (Entry, &[f32]) {
        match self.in_image(pos) {
            Some((start, image)) => (Entry::Given, image.values(pos - start, n)),
            None => (Entry::Trunk, &[]),
        }
    }
}
