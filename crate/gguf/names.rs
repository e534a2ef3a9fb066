//! Names from files, as messages show them.

pub(super) fn key(name: &str) -> String {
    format!("key `{}`", clip(name))
}

pub(super) fn tensor(name: &str) -> String {
    format!("tensor `{}`", clip(name))
}

/// A name from a file, clipped for a message.
pub(super) fn clip(name: &str) -> std::borrow::Cow<'_, str> {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &name[..end]).into(),
        None => name.into(),
    }
}
