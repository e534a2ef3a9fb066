//! Why a server gives a page no answer, as far as a page can find out: browsers say "Failed to fetch" for every failure.

use wasm_bindgen::prelude::*;

/// The possible causes, and what to do. `page` is the page's origin, `reached` whether the server answered before, `answers`
/// whether it answers requests whose answers the page may not read: undefined where that must be known.
#[wasm_bindgen(js_name = whyUnreached)]
pub fn why_unreached(url: &str, page: &str, online: bool, reached: bool, answers: Option<bool>) -> Option<String> {
    let (protocol, rest) = url.split_once(':').unwrap_or_default();
    let host = rest.trim_start_matches('/').split(['/', '?', '#']).next().unwrap_or_default();
    let origin = format!("{protocol}://{host}");
    let local = host.starts_with("127.") || host.split(':').next() == Some("localhost");
    let cors = "CORS: its server must send Access-Control-Allow-Origin with the file";
    Some(if protocol != "http" && protocol != "https" {
        format!("is {protocol}: data that can still be read?")
    } else if !online {
        "this device is offline".to_string()
    } else if reached {
        "is the connection down?".to_string()
    } else if page.starts_with("https:") && protocol == "http" && !local {
        "a page over https cannot fetch over http: give an https address".to_string()
    } else if origin == page {
        format!("is the server at {origin} running?")
    } else if answers? {
        format!("the server answers, but not to pages of {page} ({cors})")
    } else {
        format!("is there a server at {origin}, and may this page read its files ({cors})?")
    })
}
