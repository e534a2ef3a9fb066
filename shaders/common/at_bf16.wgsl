// Value i of a bf16 weight.
fn w_at(i: u32) -> f32 { return bitcast<f32>(((w[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu) << 16u); }
