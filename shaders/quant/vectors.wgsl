// Rows as they are in the file, of whole vectors.
fn row_base(row: u32) -> u32 { return row * (ROW_BYTES / 16u); }
