//! Which backend runs, from what the worker knows.

use pagelm::engine::choose;
use pagelm::{Error, ErrorKind};
use wasm_bindgen::prelude::*;

use crate::value::{from_js, thrown, to_js};

/// The best backend for these facts, both as plain objects.
#[wasm_bindgen]
pub fn choose(facts: &JsValue) -> Result<JsValue, JsValue> {
    to_js(&choose::choose(&from_js("facts", facts)?).map_err(thrown)?)
}

/// What runs instead of a GPU that refused the model with this error; undefined where the error stands.
#[wasm_bindgen(js_name = fallBack)]
pub fn fall_back(facts: &JsValue, code: &str, message: &str) -> Result<JsValue, JsValue> {
    let kind = ErrorKind::ALL.iter().find(|k| k.code() == code);
    let choice = match kind {
        Some(kind) => choose::fall_back(&from_js("facts", facts)?, &Error::new(*kind, message)),
        None => None,
    };
    choice.map_or(Ok(JsValue::UNDEFINED), |c| to_js(&c))
}
