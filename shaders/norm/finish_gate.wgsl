// The result is multiplied by the activation of a gate.
fn finish(t: u32, i: u32, v: V) -> V { return act(gate_at(t, i)) * v; }
