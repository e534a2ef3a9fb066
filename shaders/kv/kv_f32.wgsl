// Keys and values as f32.
fn k_at(pos: u32, head: u32, i: u32) -> V { return k[(kv_row(pos) * KV_HEADS + head) * N + i]; }
fn v_at(pos: u32, head: u32, i: u32) -> V { return v[(kv_row(pos) * KV_HEADS + head) * N + i]; }
