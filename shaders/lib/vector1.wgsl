fn w_v(i: u32) -> V { return w_at(i); }
