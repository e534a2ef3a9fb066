//! One error type for the whole engine: a kind with a stable code, a place, and a remedy.

use std::fmt;

/// A result whose error is [`Error`] unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)*) => {
        /// What went wrong. The code of each kind is stable and shared with `web/src/shared/errors.ts`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[$doc])* $variant,)* }

        impl ErrorKind {
            /// All kinds, in the order of their declaration.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$variant,)*];

            /// The stable, kebab-case code.
            pub fn code(self) -> &'static str {
                match self { $(ErrorKind::$variant => $code,)* }
            }
        }
    };
}

kinds! {
    /// The bytes do not start with the GGUF magic.
    NotGguf = "not-gguf",
    /// A GGUF version (or byte order) that this reader does not know.
    GgufVersion = "gguf-version",
    /// The file ends before what its header promises.
    GgufTruncated = "gguf-truncated",
    /// A header that contradicts itself or breaks a limit.
    GgufInvalid = "gguf-invalid",
    /// A file of a checkpoint (safetensors, JSON) that is not valid or ends early.
    BadCheckpoint = "bad-checkpoint",
    /// A metadata key that the model needs is absent.
    MissingKey = "missing-key",
    /// A metadata key has the wrong type.
    WrongKeyType = "wrong-key-type",
    /// A metadata value that makes no sense for the architecture.
    BadConfig = "bad-config",
    /// The architecture is not one that this engine runs.
    UnsupportedArchitecture = "unsupported-architecture",
    /// An image for a model that reads text only.
    NoImages = "no-images",
    /// An image that cannot be decoded, or has too many pixels or no usable shape.
    BadImage = "bad-image",
    /// The backend has no kernel for a tensor's type.
    UnsupportedType = "unsupported-type",
    /// Tensors that the architecture needs are absent.
    MissingTensor = "missing-tensor",
    /// A tensor has another shape than the configuration says.
    BadTensor = "bad-tensor",
    /// The file holds unknown metadata keys or tensors that can change the results.
    UnknownContent = "unknown-content",
    /// The file is one part of a model that is split into several.
    SplitFile = "split-file",
    /// The vocabulary in the file cannot be used.
    BadTokenizer = "bad-tokenizer",
    /// The file has no chat template.
    NoTemplate = "no-template",
    /// The chat template does not parse or fails while it runs.
    BadTemplate = "bad-template",
    /// The chat template refused these messages (`raise_exception`).
    TemplateRaised = "template-raised",
    /// The chat template used too much time, made too much text, or is nested or chained too deep.
    TemplateLimit = "template-limit",
    /// A grammar or a JSON schema that cannot be compiled or met, or needs too much time or memory.
    BadGrammar = "bad-grammar",
    /// More tokens than the context holds.
    ContextOverflow = "context-overflow",
    /// The sequences that run leave no room in the cache.
    CacheFull = "cache-full",
    /// Bytes that are not a sequence that this engine has saved.
    BadSnapshot = "bad-snapshot",
    /// There is nothing to run.
    EmptyPrompt = "empty-prompt",
    /// A token id outside the vocabulary.
    TokenOutOfRange = "token-out-of-range",
    /// Logits that are not finite or all equal: no token can be chosen from them.
    DegenerateLogits = "degenerate-logits",
    /// A call with arguments that are out of their range or contradict each other.
    InvalidArgument = "invalid-argument",
    /// A call that is not allowed in the present state.
    InvalidState = "invalid-state",
    /// The model does not fit in memory or in the limits of the device.
    OutOfMemory = "out-of-memory",
    /// There is no usable GPU.
    NoGpu = "no-gpu",
    /// The GPU device was lost.
    DeviceLost = "device-lost",
    /// The GPU refused a command.
    GpuError = "gpu-error",
    /// The caller stopped the operation.
    Aborted = "aborted",
    /// The server could not be reached, or the connection broke repeatedly.
    Network = "network",
    /// The server answered with an error status.
    HttpStatus = "http-status",
    /// The file does not have the SHA-256 that is expected.
    BadChecksum = "bad-checksum",
    /// The bytes could not be read.
    Io = "io",
}

/// An error with its kind, the place where it arose, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    place: String,
    detail: String,
}

impl Error {
    /// `detail` says what was expected, what was found and, where there is one, the remedy.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, place: String::new(), detail: detail.into() }
    }

    /// Names the place: a tensor, a key, a byte offset. An outer place is put in front.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = if self.place.is_empty() { place.to_string() } else { format!("{place}, {}", self.place) };
        self
    }

    /// What went wrong, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The code of the kind, such as `missing-tensor`; the page sees the same.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// Where it arose, outermost first; empty where nothing narrower than the call is known.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What was found, what was expected, and the remedy where there is one.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            write!(f, "{} [{}]", self.detail, self.code())
        } else {
            write!(f, "{}: {} [{}]", self.place, self.detail, self.code())
        }
    }
}

impl std::error::Error for Error {}

/// `bail!(Kind, "text {x}")` returns an [`Error`] from the enclosing function.
#[macro_export]
#[doc(hidden)]
macro_rules! bail {
    ($kind:ident, $($detail:tt)*) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($detail)*)))
    };
}
