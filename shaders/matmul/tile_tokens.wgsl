// A tile of consecutive rows of x, and the same rows of y.
var<private> first_row: u32;
fn choose_tile(z: u32, row0: u32, tid: u32) -> u32 {
    // Compilers do not see that a private variable is the same in all threads.
    let first = (z + now.skipped) * TILE;
    first_row = first;
    return min(TILE, select(now.tokens, now.outputs, OF_OUTPUTS) - first);
}
fn x_of(i: u32) -> u32 { return first_row + i; }
fn y_of(i: u32) -> u32 { return first_row + i; }
fn stored(segment: u32, row: u32) -> bool { return row < rows_in(segment); }
