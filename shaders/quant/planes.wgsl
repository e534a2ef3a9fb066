// Tiles of 16 rows, each with all first fields of its blocks, then all second ones, and so on: fields of whole vectors
// come first, so that each is aligned to a vector.
fn row_base(row: u32) -> u32 { return row; }
fn tile_at(row: u32) -> u32 { return (row >> 4u) * ROW_BYTES; }
fn block_at(row: u32, block: u32) -> u32 { return (row & 15u) * BLOCKS + block; }
// Word i, half i or byte i of the field that starts at vector `at`.
fn word_at(at: u32, i: u32) -> u32 { return w[at + (i >> 2u)][i & 3u]; }
fn half_at(at: u32, i: u32) -> f32 { return half((word_at(at, i >> 1u) >> ((i & 1u) * 16u)) & 0xffffu); }
fn u8_at(at: u32, i: u32) -> u32 { return (word_at(at, i >> 2u) >> ((i & 3u) * 8u)) & 0xffu; }
