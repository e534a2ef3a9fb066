// A value of a weight that is one row.
fn w_v(i: u32) -> V { return w_at(i); }
