//! Embeddings of texts.

use js_sys::{Array, Float32Array, Uint32Array};
use pagelm::engine::EmbedParams;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::value::{from_js, thrown, to_js};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Embeddings {
    #[serde(with = "serde_wasm_bindgen::preserve")]
    embeddings: JsValue,
    tokens: usize,
}

#[wasm_bindgen]
impl Engine {
    /// The vectors of texts, given as tokens, and how many tokens they have together.
    pub async fn embed(&mut self, texts: Vec<Uint32Array>, params: JsValue) -> Result<JsValue, JsValue> {
        let params: EmbedParams = from_js("options", &params)?;
        let texts: Vec<_> = texts.iter().map(Uint32Array::to_vec).collect();
        let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
        let vectors = self.ready()?.engine.embed(&texts, &params).await.map_err(thrown)?;
        let embeddings: Array = vectors.iter().map(|v| Float32Array::from(&**v)).collect();
        to_js(&Embeddings { embeddings: embeddings.into(), tokens: texts.iter().map(|ids| ids.len()).sum() })
    }
}
