//! What the core does not have by itself.

use crate::text::template::DateTime;

/// What a host adds to a request.
#[derive(Clone, Debug)]
pub struct Given {
    /// Seconds since 1970.
    pub now: u64,
    /// Letters and digits that no other request has: all ids in the answer are made of them.
    pub id: String,
    /// A random seed, for requests that name none.
    pub seed: u64,
    /// The date that a chat template may print.
    pub date: Option<DateTime>,
}
