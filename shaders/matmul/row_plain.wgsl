// This buffer holds the rows of one matrix, or some of them.
fn row_at(row: u32) -> u32 { return min(row, ROWS - 1u); }
