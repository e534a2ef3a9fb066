//! Which path is what.

use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{At, Result};
use super::given::Given;
use super::job::{Accepted, Job};
use super::model::Api;
use super::{chat, completions, embeddings, rerank, responses};

impl Api {
    /// The method of a path, if there is such a path.
    pub fn method(path: &str) -> Option<&'static str> {
        match path {
            "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" | "/v1/rerank" | "/v1/responses" => {
                Some("POST")
            }
            "/v1/models" => Some("GET"),
            _ => path.strip_prefix("/v1/models/").map(|_| "GET"),
        }
    }

    /// Reads a request: its method, its path without a query and with `%20` and the like decoded, and its body.
    pub fn request(&self, method: &str, path: &str, body: &[u8], given: &Given) -> Result<Accepted> {
        match Self::method(path) {
            None => return Err(ApiError::new(404, None, format!("there is no path {path} here"))),
            Some(right) if right != method => {
                return Err(ApiError::new(405, None, format!("{path} takes {right}, not {method}")));
            }
            Some(_) => {}
        }
        let plain = |body: Value| Ok(Accepted { job: Job::Body(body.to_string()), warnings: Vec::new() });
        if path == "/v1/models" {
            return plain(json!({ "object": "list", "data": [self.entry(self.name())] }));
        }
        if let Some(name) = path.strip_prefix("/v1/models/") {
            return plain(self.entry(self.find(name)?));
        }
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| ApiError::invalid("", format_args!("must be a JSON object: {e}")))?;
        let fields = At { value: &value, path: String::new() }.object()?;
        match path {
            "/v1/chat/completions" => chat::read(self, fields, given),
            "/v1/completions" => completions::read(self, fields, given),
            "/v1/responses" => responses::read(self, fields, given),
            _ => {
                let mut warnings = Vec::new();
                let read = if path == "/v1/rerank" { rerank::read } else { embeddings::read };
                let embed = read(self, fields, &mut warnings)?;
                Ok(Accepted { job: Job::Embed(embed), warnings })
            }
        }
    }

    fn entry(&self, name: &str) -> Value {
        json!({ "id": name, "object": "model", "created": self.created, "owned_by": "pagelm" })
    }
}
