// Keys and values as f16, two per word.
fn wide(p: vec2<u32>) -> V { return V(unpack2x16float(p.x), unpack2x16float(p.y)); }
fn k_at(pos: u32, head: u32, i: u32) -> V { return wide(k[(kv_row(pos) * KV_HEADS + head) * N + i]); }
fn v_at(pos: u32, head: u32, i: u32) -> V { return wide(v[(kv_row(pos) * KV_HEADS + head) * N + i]); }
