// A tile of consecutive rows of x, and the same rows of y.
var<private> first_row: u32;
fn choose_tile(z: u32, row0: u32, tid: u32) -> u32 {
    first_row = (z + now.skipped) * TILE;
    return min(TILE, select(now.tokens, now.outputs, OF_OUTPUTS) - first_row);
}
fn x_of(i: u32) -> u32 { return first_row + i; }
fn y_of(i: u32) -> u32 { return first_row + i; }
fn stored(segment: u32, row: u32) -> bool { return row < rows_in(segment); }
