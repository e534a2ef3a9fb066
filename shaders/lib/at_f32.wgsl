fn w_at(i: u32) -> f32 { return bitcast<f32>(w[i]); }
