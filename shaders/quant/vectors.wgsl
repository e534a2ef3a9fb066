// Rows as they are in the file, of whole vectors.
fn row_base(row: u32) -> u32 { return row * (ROW_BYTES / 16u); }
fn word_of(v: vec4<u32>, i: u32) -> u32 { return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i > 1u); }
