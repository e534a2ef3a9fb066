// The location of a position's row in a state of kind KIND: only this file defines it. A sequence's rows lie in blocks of
// BLOCK positions, and its table says which; `table` is where it starts.
fn row_table(row: u32) -> u32 { return rows[4u * row + 2u + KIND]; }
fn kv_row(table: u32, pos: u32) -> u32 { return rows[table + pos / BLOCK] * BLOCK + pos % BLOCK; }
