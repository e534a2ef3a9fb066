// Rows in the file's layout, in whole vectors.
fn row_base(row: u32) -> u32 { return row * (ROW_BYTES / 16u); }
