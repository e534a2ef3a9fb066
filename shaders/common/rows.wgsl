// A row of the step is a token. `rows` has four words for each: its id, its position, and where the tables of its
// sequence's blocks start, one for each kind of cache. The tables follow the rows.
fn row_id(row: u32) -> u32 { return rows[4u * row]; }
fn row_pos(row: u32) -> u32 { return rows[4u * row + 1u]; }
