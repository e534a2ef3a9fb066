// Keys and values as f32. `row` is what `kv_row` gives.
fn k_at(row: u32, head: u32, i: u32) -> V { return k[(row * KV_HEADS + head) * N + i]; }
fn v_at(row: u32, head: u32, i: u32) -> V { return v[(row * KV_HEADS + head) * N + i]; }
