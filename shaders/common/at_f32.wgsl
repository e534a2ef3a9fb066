// Value i of an f32 weight.
fn w_at(i: u32) -> f32 { return bitcast<f32>(w[i]); }
