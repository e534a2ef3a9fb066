// The factor of a norm from the squares that `load_x` summed, each counted once in the workgroup.
fn stage_squares(tid: u32) {
    for (var t = 0u; t < T; t++) {
        part[(NR * T + t) * WG + tid] = squares[t];
    }
}
fn factor(t: u32) -> f32 {
    var s = 0.0;
    for (var g = 0u; g < GROUPS; g++) {
        s += total(NR * T + t, g);
    }
    return 1.0 / sqrt(s / f32(RUNS * 32u) + EPS);
}
