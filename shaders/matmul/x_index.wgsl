// Where row t of those that the workgroup has starts, or the last one.
fn x_index(t: u32) -> u32 { return min(x_row + t, x_last) * RUNS * 8u; }
