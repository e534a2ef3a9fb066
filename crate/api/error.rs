//! What a client is told when a request cannot be served.

use serde_json::json;

use crate::error::{Error, ErrorKind};

/// An error in the shape of OpenAI's API, with the status of its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// What was wrong, what was expected and what to do.
    pub message: String,
    /// The path of the parameter that is wrong, such as `messages[2].content`.
    pub param: Option<String>,
    /// A stable code, where there is one.
    pub code: Option<&'static str>,
}

impl ApiError {
    /// An error without a parameter.
    pub fn new(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code }
    }

    /// A parameter that is wrong; `detail` goes on from its name.
    pub(super) fn invalid(param: &str, detail: impl std::fmt::Display) -> Self {
        // The body itself has no name.
        let message = if param.is_empty() { format!("the body {detail}") } else { format!("`{param}` {detail}") };
        Self { status: 400, message, param: Some(param.to_string()).filter(|p| !p.is_empty()), code: None }
    }

    /// The same about a parameter.
    #[must_use]
    pub(super) fn about(mut self, param: &str) -> Self {
        self.param.get_or_insert_with(|| param.to_string());
        self
    }

    /// OpenAI's word for who can do something about it.
    pub fn kind(&self) -> &'static str {
        match self.status {
            401 => "authentication_error",
            400..500 => "invalid_request_error",
            _ => "server_error",
        }
    }

    /// The body of the response.
    pub fn body(&self) -> String {
        let Self { message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": self.kind(), "param": param, "code": code } }).to_string()
    }
}

impl From<Error> for ApiError {
    fn from(e: Error) -> Self {
        let (status, code) = match e.kind() {
            ErrorKind::ContextOverflow => (400, "context_length_exceeded"),
            ErrorKind::InvalidArgument
            | ErrorKind::InvalidState
            | ErrorKind::BadGrammar
            | ErrorKind::TokenOutOfRange
            | ErrorKind::NoImages
            | ErrorKind::BadImage
            | ErrorKind::EmptyPrompt
            | ErrorKind::BadTokenizer
            | ErrorKind::NoTemplate
            | ErrorKind::BadTemplate
            | ErrorKind::TemplateRaised
            | ErrorKind::TemplateLimit => (400, e.code()),
            ErrorKind::CacheFull => (503, e.code()),
            _ => (500, e.code()),
        };
        let message = match e.place() {
            "" => e.detail().to_string(),
            place => format!("{place}: {}", e.detail()),
        };
        Self::new(status, Some(code), message)
    }
}
