//! Values and errors that cross to JavaScript.

use pagelm::{Error, ErrorKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;

/// An error as plain data: what is thrown, and what a report carries.
#[derive(Serialize)]
pub struct Problem {
    code: &'static str,
    place: String,
    message: String,
}

impl From<&Error> for Problem {
    fn from(e: &Error) -> Self {
        Self { code: e.code(), place: e.place().to_owned(), message: e.detail().to_owned() }
    }
}

/// For `map_err`.
pub fn thrown(e: Error) -> JsValue {
    to_js(&Problem::from(&e)).unwrap_or_else(|e| e)
}

/// Structs become objects, integers become numbers.
pub fn to_js<T: Serialize + ?Sized>(value: &T) -> Result<JsValue, JsValue> {
    Ok(value.serialize(&serde_wasm_bindgen::Serializer::json_compatible())?)
}

/// By way of JSON, for serde then sees the fields that it does not know, and refuses them by name.
pub fn from_js<T: DeserializeOwned>(what: &str, value: &JsValue) -> Result<T, JsValue> {
    let text = js_sys::JSON::stringify(value).map(String::from).unwrap_or_default();
    serde_json::from_str(&text).map_err(|e| thrown(Error::new(ErrorKind::InvalidArgument, e.to_string()).at(what)))
}
