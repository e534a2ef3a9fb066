//! GGUF reading.
