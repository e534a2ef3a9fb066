// Keys and values as f16, two per word. `row` is what `kv_row` gives.
fn wide(p: vec2<u32>) -> V { return V(unpack2x16float(p.x), unpack2x16float(p.y)); }
fn k_at(row: u32, head: u32, i: u32) -> V { return wide(k[(row * KV_HEADS + head) * N + i]); }
fn v_at(row: u32, head: u32, i: u32) -> V { return wide(v[(row * KV_HEADS + head) * N + i]); }
