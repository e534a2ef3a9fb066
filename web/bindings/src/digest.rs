//! The SHA-256 of what comes in pieces: browsers only take it whole.

use sha2::{Digest, Sha256 as Hasher};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256(Hasher);

#[wasm_bindgen]
impl Sha256 {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Sha256 {
        Sha256::default()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that came, in hexadecimal digits. It starts anew after that.
    pub fn finish(&mut self) -> JsValue {
        self.0.finalize_reset().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }
}
