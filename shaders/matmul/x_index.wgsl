// The start of the workgroup's row t of x, or of the last row if there are fewer.
fn x_index(t: u32) -> u32 { return min(x_row + t, x_last) * RUNS * 8u; }
