// The result times sigmoid(gate).
// The clamp keeps exp finite.
fn gated(token: u32, i: u32, v: V) -> V { return v / (V(1.0) + exp(min(-gate_at(token, i), V(80.0)))); }
