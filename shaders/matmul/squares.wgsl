// The factor of a norm from the squares that `load_x` met, each of them once in a group of lanes.
fn stage_squares(tid: u32) {
    for (var t = 0u; t < T; t++) {
        part[(NR * T + t) * WG + tid] = squares[t];
    }
}
fn factor(t: u32, group: u32) -> f32 { return 1.0 / sqrt(total(NR * T + t, group) / f32(RUNS * 32u) + EPS); }
