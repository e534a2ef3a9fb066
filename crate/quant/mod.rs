//! Block formats: packed bytes to f32 values, one block at a time.
