// Value i of an f16 weight.
fn w_at(i: u32) -> f32 { return half((w[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu); }
