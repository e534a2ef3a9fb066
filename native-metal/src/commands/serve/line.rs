//! The line of a request in the log.

use std::time::Instant;

use hyper::Method;

/// Logged when it is dropped: after the last byte of the response, or when the client is gone.
pub struct Line {
    method: Method,
    path: String,
    pub status: u16,
    pub tokens: usize,
    /// Parameters that are not known.
    pub unknown: Vec<String>,
    /// Whether all was said.
    pub whole: bool,
    started: Instant,
}

impl Line {
    pub fn new(method: Method, path: String) -> Self {
        Self { method, path, status: 0, tokens: 0, unknown: Vec::new(), whole: false, started: Instant::now() }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self { method, path, status, tokens, unknown, whole, started } = self;
        let ms = started.elapsed().as_secs_f64() * 1e3;
        let status = if *status == 0 { "-".to_string() } else { status.to_string() };
        let tokens = if *tokens > 0 { format!(", {tokens} tokens") } else { String::new() };
        let gone = if *whole { "" } else { ", the client is gone" };
        let unknown = if unknown.is_empty() { String::new() } else { format!(", unknown: {unknown:?}") };
        tracing::info!("{method} {path} {status} in {ms:.0} ms{tokens}{gone}{unknown}");
    }
}
