// Keys and values as f32.
fn store_key(row_head: u32, i: u32, v: V) { keys[row_head * N + i] = v; }
fn store_value(row_head: u32, i: u32, v: V) { values[row_head * N + i] = v; }
