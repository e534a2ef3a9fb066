// Four values of a weight that is one row.
fn w_v(i: u32) -> V { return V(w_at(i * 4u), w_at(i * 4u + 1u), w_at(i * 4u + 2u), w_at(i * 4u + 3u)); }
