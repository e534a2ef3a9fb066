// The result without a gate.
fn gated(token: u32, i: u32, v: V) -> V { return v; }
