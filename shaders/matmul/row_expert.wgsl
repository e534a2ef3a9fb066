// The matrix holds the rows of all experts, Y_ROWS each; this part of it holds ROW0 to ROW0 + ROWS.
fn row_at(row: u32) -> u32 { return clamp(expert * Y_ROWS + min(row, Y_ROWS - 1u), ROW0, ROW0 + ROWS - 1u) - ROW0; }
