//! Sessions: step-level work on sequences that JavaScript holds by number.

use std::collections::BTreeMap;

use js_sys::{Float32Array, Function, Uint8Array};
use pagelm::engine::{self, Sequence};
use pagelm::{Error, ErrorKind};
use wasm_bindgen::prelude::*;

use crate::engine::{Engine, Ready, wrong_state};
use crate::slices::Slices;
use crate::value::thrown;

/// Bytes of a snapshot that cross at once.
const PIECE: usize = 1 << 20;

/// Sequences of open sessions, by number.
#[derive(Default)]
pub struct Sessions {
    all: BTreeMap<u32, Sequence>,
    next: u32,
}

impl Sessions {
    fn open(&mut self, sequence: Sequence) -> u32 {
        self.next += 1;
        self.all.insert(self.next, sequence);
        self.next
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn sequences(&self) -> Vec<&Sequence> {
        self.all.values().collect()
    }
}

impl Engine {
    fn session(&mut self, id: u32) -> Result<(&mut engine::Engine, &mut Sequence), JsValue> {
        let Ready { engine, sessions, .. } = self.ready()?;
        let sequence = sessions.all.get_mut(&id).ok_or_else(|| wrong_state("the session is closed"))?;
        Ok((engine, sequence))
    }
}

#[wasm_bindgen]
impl Engine {
    /// With the tokens of another one, of what was left in the cache last (0), or without.
    #[wasm_bindgen(js_name = openSession)]
    pub fn open_session(&mut self, fork: Option<u32>) -> Result<u32, JsValue> {
        let sequence = match fork {
            None => self.ready()?.engine.sequence(),
            Some(0) => self.ready()?.engine.newest().map_err(thrown)?,
            Some(id) => {
                let (engine, other) = self.session(id)?;
                engine.fork(other, other.tokens().len()).map_err(thrown)?
            }
        };
        Ok(self.ready()?.sessions.open(sequence))
    }

    /// As it was saved. `read` returns bytes of the snapshot, from the first to before the second number.
    #[wasm_bindgen(js_name = restoreSession)]
    pub fn restore_session(&mut self, read: &Function) -> Result<u32, JsValue> {
        let ready = self.ready()?;
        let (mut piece, mut at, mut used) = (Vec::new(), 0, 0);
        let restored = ready.engine.restore(&mut |mut out: &mut [u8]| {
            while !out.is_empty() {
                if used == piece.len() {
                    let end = at + PIECE;
                    let bytes = read.call2(&JsValue::NULL, &(at as f64).into(), &(end as f64).into());
                    let unread = |e: JsValue| Error::new(ErrorKind::Io, format!("the snapshot cannot be read: {e:?}"));
                    piece = bytes.map_err(unread)?.unchecked_into::<Uint8Array>().to_vec();
                    (at, used) = (at + piece.len(), 0);
                    if piece.is_empty() {
                        return Err(Error::new(ErrorKind::BadSnapshot, format!("it ends after {at} bytes")));
                    }
                }
                let n = out.len().min(piece.len() - used);
                let (now, rest) = std::mem::take(&mut out).split_at_mut(n);
                now.copy_from_slice(&piece[used..used + n]);
                used += n;
                out = rest;
            }
            Ok(())
        });
        Ok(ready.sessions.open(restored.map_err(thrown)?))
    }

    /// Passes the bytes of a snapshot to `write`, piece by piece.
    #[wasm_bindgen(js_name = saveSession)]
    pub async fn save_session(&mut self, id: u32, write: Function) -> Result<(), JsValue> {
        let (engine, sequence) = self.session(id)?;
        let mut piece = Vec::with_capacity(PIECE);
        let pass = |piece: &mut Vec<u8>| {
            let result = write.call1(&JsValue::NULL, &Uint8Array::from(&**piece));
            piece.clear();
            result.map_err(|e| Error::new(ErrorKind::Io, format!("the snapshot cannot be kept: {e:?}"))).map(|_| ())
        };
        let mut keep = |bytes: &[u8]| {
            piece.extend_from_slice(bytes);
            if piece.len() >= PIECE { pass(&mut piece) } else { Ok(()) }
        };
        engine.save(sequence, &mut keep).await.map_err(thrown)?;
        pass(&mut piece).map_err(thrown)
    }

    #[wasm_bindgen(js_name = closeSession)]
    pub fn close_session(&mut self, id: u32) -> Result<(), JsValue> {
        self.ready()?.sessions.all.remove(&id);
        Ok(())
    }

    /// Appends tokens and returns the logits after the last. An empty session goes on from what generations left in the
    /// cache. If `pause` gives a step up, those of the steps before it were appended, and there are no logits.
    pub async fn prefill(&mut self, id: u32, tokens: Vec<u32>, pause: Function) -> Result<Float32Array, JsValue> {
        let (engine, sequence) = self.session(id)?;
        let slices = Slices::of(engine, &pause);
        let mut rest = &tokens[..];
        if sequence.tokens().is_empty() {
            *sequence = engine.resume(&tokens).map_err(thrown)?;
            rest = &tokens[sequence.tokens().len()..];
        }
        let logits = slices.run(engine.prefill(sequence, rest)).await?;
        Ok(Float32Array::from(&*logits.unwrap_or(Ok(&mut [])).map_err(thrown)?))
    }

    /// The logits of the token after `next`, by the block for multi-token prediction. The cache stays as it is.
    pub async fn mtp(&mut self, id: u32, next: u32) -> Result<Float32Array, JsValue> {
        let (engine, sequence) = self.session(id)?;
        Ok(Float32Array::from(&*engine.mtp(sequence, next).await.map_err(thrown)?))
    }

    /// Makes going back to the present position cheap.
    pub fn checkpoint(&mut self, id: u32) -> Result<(), JsValue> {
        let (engine, sequence) = self.session(id)?;
        engine.checkpoint(sequence);
        Ok(())
    }

    /// Forgets all tokens after the first `n`.
    pub fn rollback(&mut self, id: u32, n: usize) -> Result<(), JsValue> {
        let (engine, sequence) = self.session(id)?;
        engine.rollback(sequence, n).map_err(thrown)
    }
}
