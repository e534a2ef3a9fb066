//! Who may send requests.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, AUTHORIZATION, HeaderMap,
    HeaderName, HeaderValue, ORIGIN, VARY,
};
use pagelm::api::ApiError;
use pagelm::{Error, ErrorKind, Result};
use subtle::ConstantTimeEq;

/// The header that names parameters which are not known.
pub const UNKNOWN_PARAMETERS: HeaderName = HeaderName::from_static("x-unknown-parameters");

/// A page asks whether it may send to a machine of a private network, such as the one that it runs on.
const REQUEST_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

pub struct Gate {
    key: Option<String>,
    origins: Vec<HeaderValue>,
}

impl Gate {
    pub fn new(key: Option<String>, origins: Vec<String>) -> Result<Self> {
        if key.as_ref().is_some_and(String::is_empty) {
            return Err(Error::new(ErrorKind::InvalidArgument, "the API key is empty; anybody could send it"));
        }
        let origins = origins.into_iter().map(|origin| {
            let fits = origin == "*" || (origin.contains("://") && !origin.ends_with('/'));
            let value = HeaderValue::try_from(&origin).ok().filter(|_| fits);
            value.ok_or_else(|| {
                let detail = format!("`--cors {origin}` is not an origin; expected one like https://example.org, or *");
                Error::new(ErrorKind::InvalidArgument, detail)
            })
        });
        Ok(Self { key, origins: origins.collect::<Result<_>>()? })
    }

    /// Whether anybody may send requests who can connect.
    pub fn is_open(&self) -> bool {
        self.key.is_none()
    }

    /// Refuses pages of other origins. Browsers let them send some requests without asking, to any machine that their
    /// user can reach; programs name no origin.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match headers.get(ORIGIN) {
            Some(origin) if !self.allows(origin) => {
                let message =
                    format!("pages of {origin:?} may not send requests; start the server with `--cors` for them");
                Err(ApiError::new(403, Some("origin_not_allowed"), message))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a wrong key, in a time that tells nothing of the right one but its length.
    pub fn check_key(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(key) = &self.key else { return Ok(()) };
        let sent = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let scheme = b"Bearer ";
        let bearer = sent.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if bearer && bool::from(sent[scheme.len()..].ct_eq(key.as_bytes())) {
            return Ok(());
        }
        let message = match sent {
            b"" => "there is no API key; send it as `Authorization: Bearer KEY`",
            _ => "the API key is not the one of this server",
        };
        Err(ApiError::new(401, Some("invalid_api_key"), message))
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|o| o == origin || o == "*")
    }

    /// What a browser must see before it hands a response to a page, and in answer to its question before a request.
    pub fn add_headers(&self, request: &HeaderMap, preflight: bool, response: &mut HeaderMap) {
        response.insert(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = request.get(ORIGIN).filter(|origin| self.allows(origin)) else { return };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, UNKNOWN_PARAMETERS.into());
        if !preflight {
            return;
        }
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        response.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
        if let Some(names) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        if request.contains_key(REQUEST_PRIVATE) {
            response.insert(ALLOW_PRIVATE, HeaderValue::from_static("true"));
        }
    }
}
