fn row_at(row: u32) -> u32 { return min(row, ROWS - 1u); }
