//! A sequence as bytes: saved, it can go on in another run of the program or after the page was reloaded, without running
//! its tokens again.
//!
//! The bytes are the tokens and the parts of the backend's cache, in that backend's own layout, so they fit an engine with
//! the same model, backend and cache type. A checksum at the end says whether they are whole.

use std::future::poll_fn;

use super::images::{ImageRows, Shown};
use super::{Engine, Sequence};
use crate::backend::{BLOCK, CachePart};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::CacheKind;

/// The first bytes, with the version of the format at the end.
const MAGIC: [u8; 8] = *b"pagelmS2";

/// A checksum that reads eight bytes at a time.
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        // Multiplying by an odd number loses nothing, and turning brings high bits down again.
        let mut mix = |word: u64| self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        words.iter().for_each(|w| mix(u64::from_le_bytes(*w)));
        rest.iter().for_each(|b| mix(u64::from(*b)));
    }
}

/// Writes to a caller's function, and sums.
struct Writer<'a> {
    write: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    sum: Sum,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.sum.add(bytes);
        (self.write)(bytes)
    }

    fn number(&mut self, n: u64) -> Result<()> {
        self.bytes(&n.to_le_bytes())
    }

    /// Those of a sequence with their rows: a state that is lost is made of them again.
    fn images(&mut self, s: &Sequence) -> Result<()> {
        self.number(s.images.len() as u64)?;
        for (start, image) in &s.images {
            let ImageRows { digest, width, height, values } = image.rows();
            let numbers = [*start as u64, (digest >> 64) as u64, *digest as u64, *width as u64, *height as u64];
            numbers.into_iter().try_for_each(|n| self.number(n))?;
            self.bytes(bytemuck::cast_slice(values))?;
        }
        Ok(())
    }

    fn ids(&mut self, ids: &[u32]) -> Result<()> {
        self.number(ids.len() as u64)?;
        ids.iter().try_for_each(|id| self.bytes(&id.to_le_bytes()))
    }
}

/// Reads by a caller's function, and sums.
struct Reader<'a> {
    read: &'a mut dyn FnMut(&mut [u8]) -> Result<()>,
    sum: Sum,
}

impl Reader<'_> {
    fn bytes(&mut self, bytes: &mut [u8]) -> Result<()> {
        (self.read)(bytes)?;
        self.sum.add(bytes);
        Ok(())
    }

    fn number(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number that must be at most `most`.
    fn count(&mut self, what: &str, most: usize) -> Result<usize> {
        let n = self.number()?;
        if n > most as u64 {
            return Err(bad(format!("{n} {what}, at most {most} can be there")));
        }
        Ok(n as usize)
    }

    fn ids(&mut self, what: &str, most: usize, below: usize) -> Result<Vec<u32>> {
        let n = self.count(what, most)?;
        let mut ids = Vec::with_capacity(n);
        for _ in 0..n {
            let mut id = [0; 4];
            self.bytes(&mut id)?;
            ids.push(u32::from_le_bytes(id));
        }
        if ids.iter().any(|id| *id as usize >= below) {
            return Err(bad(format!("one of the {what} is not below {below}")));
        }
        Ok(ids)
    }
}

fn bad(what: String) -> Error {
    Error::new(ErrorKind::BadSnapshot, what)
}

impl Engine {
    /// A sequence with all tokens of the one that was left last: with none if nothing was.
    pub fn newest(&mut self) -> Result<Sequence> {
        let Some(i) = self.idle.newest() else { return Ok(self.sequence()) };
        let found = self.idle.take(i);
        let fork = self.fork(&found, found.tokens().len());
        self.idle.keep(found);
        fork
    }

    /// Saves a sequence: calls `write` with one piece after another.
    pub async fn save(&mut self, s: &mut Sequence, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        if s.tokens().is_empty() {
            crate::bail!(EmptyPrompt, "the sequence has no tokens to save; run some first");
        }
        // Whatever states it lacks, a restored sequence shall not.
        self.ready(s, 0).await?;
        self.abandon();
        self.drain().await?;
        let mut w = Writer { write, sum: Sum(0) };
        w.bytes(&MAGIC)?;
        w.number(self.identity())?;
        w.ids(s.tokens())?;
        w.ids(&s.mtp_tokens[..s.mtp_seen.min(s.mtp_tokens.len())])?;
        w.images(s)?;
        let mut parts = Vec::new();
        for kind in CacheKind::ALL {
            let blocks: Vec<_> =
                (0..s.tokens().len().div_ceil(BLOCK)).filter(|i| s.block(kind, *i).is_some()).collect();
            w.ids(&blocks.iter().map(|i| *i as u32).collect::<Vec<_>>())?;
            parts.extend(blocks.iter().filter_map(|i| s.block(kind, *i)).map(|b| CachePart::Block(kind, b.id())));
        }
        let states = s.states();
        w.ids(&states.iter().map(|(at, _)| *at as u32).collect::<Vec<_>>())?;
        parts.extend(states.iter().map(|(_, slot)| CachePart::Slot(slot.id())));
        let mut bytes = Vec::new();
        if let Some(part) = self.unread_part {
            self.take_part(part, &mut bytes).await?;
        }
        for part in parts {
            self.backend.submit_read(part)?;
            self.unread_part = Some(part);
            self.take_part(part, &mut bytes).await?;
            w.bytes(&bytes)?;
        }
        let sum = w.sum.0;
        (w.write)(&sum.to_le_bytes())
    }

    /// Waits for the part that is being read.
    async fn take_part(&mut self, part: CachePart, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.resize(self.backend.part_bytes(part), 0);
        let result = poll_fn(|cx| self.backend.poll_read(cx, bytes)).await;
        self.unread_part = None;
        result
    }

    /// The sequence that was saved: calls `read`, which fills the whole slice with the bytes that follow or fails. Refuses
    /// bytes that are damaged or from another model, backend or cache type with [`ErrorKind::BadSnapshot`].
    pub fn restore(&mut self, read: &mut dyn FnMut(&mut [u8]) -> Result<()>) -> Result<Sequence> {
        let mut r = Reader { read, sum: Sum(0) };
        let mut magic = [0; 8];
        r.bytes(&mut magic)?;
        if magic != MAGIC {
            return Err(bad("these are not the bytes of a saved sequence, or of another version of it".to_string()));
        }
        if r.number()? != self.identity() {
            return Err(bad(
                "the sequence was saved with another model, backend or cache type; run its tokens again".to_string()
            ));
        }
        let tokens = r.ids("tokens", self.limits.n_ctx, u32::MAX as usize)?;
        let mtp_tokens = r.ids("tokens of the block for multi-token prediction", tokens.len(), self.n_vocab)?;
        let images = self.restored_images(&mut r, &tokens)?;
        let blocks = tokens.len().div_ceil(BLOCK);
        let indices = [(); 2].map(|()| r.ids("blocks", blocks, blocks));
        let [context, window] = indices;
        let indices = [context?, window?];
        let states = r.ids("states", self.limits.slots, tokens.len() + 1)?;
        let ordered = |ids: &[u32]| ids.windows(2).all(|w| w[0] < w[1]);
        if !(indices.iter().all(|i| ordered(i)) && ordered(&states)) {
            return Err(bad("its parts are not in order".to_string()));
        }
        let mut s = self.sequence();
        let mut bytes = Vec::new();
        for (kind, indices) in CacheKind::ALL.into_iter().zip(&indices) {
            if !indices.is_empty() && !self.has(kind) {
                return Err(bad("it has blocks of a kind that the model has not".to_string()));
            }
            for &i in indices {
                self.make_block(&mut s, kind, i as usize, true)?;
                let id = s.block(kind, i as usize).expect("it was just made").id();
                self.read_part(&mut r, CachePart::Block(kind, id), &mut bytes)?;
            }
        }
        let mut slots = Vec::new();
        for &at in &states {
            let slot = self.take_slot(&mut s)?;
            self.read_part(&mut r, CachePart::Slot(slot.id()), &mut bytes)?;
            slots.push((at as usize, slot));
        }
        let sum = r.sum.0;
        let mut end = [0; 8];
        (r.read)(&mut end)?;
        if u64::from_le_bytes(end) != sum {
            return Err(bad("the bytes are damaged: their checksum is another".to_string()));
        }
        s.images = images;
        s.restored(tokens, mtp_tokens, slots, self.past);
        Ok(s)
    }

    /// The images among the tokens, which must be theirs.
    fn restored_images(&mut self, r: &mut Reader<'_>, tokens: &[u32]) -> Result<Vec<Shown>> {
        let mut images = Vec::new();
        let mut end = 0;
        for _ in 0..r.count("images", tokens.len())? {
            let start = r.count("tokens before an image", tokens.len())?;
            let digest = u128::from(r.number()?) << 64 | u128::from(r.number()?);
            let [width, height] =
                [r.count("rows along an image", self.limits.n_ctx)?, r.count("rows down it", self.limits.n_ctx)?];
            let n = ImageRows::count(width, height);
            if !(1..=self.limits.n_ctx).contains(&n) || self.given_columns == 0 || start < end {
                return Err(bad("it has an image that the model cannot take".to_string()));
            }
            let mut values = vec![0f32; n * self.given_columns];
            r.bytes(bytemuck::cast_slice_mut(&mut values))?;
            let image = self.add_image(ImageRows { digest, width, height, values })?;
            if !tokens[start..].iter().zip(image.tokens()).all(|(a, b)| a == b) {
                return Err(bad("its tokens are not those of its images".to_string()));
            }
            end = start + n;
            images.push((start, image));
        }
        let in_image =
            |at: usize| images.iter().any(|(start, i): &Shown| (*start..start + i.tokens().len()).contains(&at));
        let known = |(at, id): (usize, &u32)| (*id as usize) < self.n_vocab || in_image(at);
        if !tokens.iter().enumerate().all(known) {
            return Err(bad(format!("one of the tokens is not below {}", self.n_vocab)));
        }
        Ok(images)
    }

    fn read_part(&mut self, r: &mut Reader<'_>, part: CachePart, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.resize(self.backend.part_bytes(part), 0);
        r.bytes(bytes)?;
        self.backend.write_part(part, bytes)
    }

    /// What a snapshot must agree with: the model's header, the backend, and the sizes of the parts of its cache.
    fn identity(&self) -> u64 {
        let mut sum = Sum(self.fingerprint);
        sum.add(self.backend.name().as_bytes());
        sum.add(self.limits.kv.name().as_bytes());
        let parts =
            [CachePart::Block(CacheKind::Context, 0), CachePart::Block(CacheKind::Window, 0), CachePart::Slot(0)];
        parts.iter().for_each(|p| sum.add(&(self.backend.part_bytes(*p) as u64).to_le_bytes()));
        sum.0
    }
}
