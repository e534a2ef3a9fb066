// Every angle turns by the position.
fn coordinate(row: u32, i: u32) -> u32 { return row_pos(row); }
