// Rows in the file's layout, in words.
fn row_base(row: u32) -> u32 { return row * ROW_BYTES; }
