//! The files of models that are named, on a hub or by their parts.

use pagelm::hub::{self, HUB, HubModel};
use wasm_bindgen::prelude::*;

use crate::value::{thrown, to_js};

/// The URLs of all parts of a split model, whichever of them this is; just this one if it is whole.
#[wasm_bindgen]
pub fn siblings(url: &str) -> Vec<String> {
    hub::siblings(url)
}

/// The one model among the names of files, all its parts. `place` is where the files are.
#[wasm_bindgen(js_name = chooseFiles)]
pub fn choose_files(names: Vec<String>, place: &str) -> Result<Vec<String>, JsValue> {
    hub::choose(&names, place, None).map_err(in_model)
}

/// Where a hub lists the files of the model that has this shorthand.
#[wasm_bindgen(js_name = hubList)]
pub fn hub_list(model: &str, hub: Option<String>) -> Result<String, JsValue> {
    Ok(parsed(model)?.list_url(hub.as_deref().unwrap_or(HUB)))
}

/// The files of that model by the hub's list, or, without one, undefined where only a list could tell.
#[wasm_bindgen(js_name = hubFiles)]
pub fn hub_files(model: &str, hub: Option<String>, list: Option<String>) -> Result<JsValue, JsValue> {
    let (model, hub) = (parsed(model)?, hub.as_deref().unwrap_or(HUB));
    let files = match list {
        Some(list) => Some(model.files(hub, &list).map_err(in_model)?),
        None => model.files_unlisted(hub),
    };
    files.map_or(Ok(JsValue::UNDEFINED), |files| to_js(&files))
}

fn parsed(model: &str) -> Result<HubModel, JsValue> {
    model.parse().map_err(in_model)
}

/// The page calls it so.
fn in_model(e: pagelm::Error) -> JsValue {
    thrown(if e.place().is_empty() { e.at("model") } else { e })
}
