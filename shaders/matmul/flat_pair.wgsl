// Two rows of gate and the same two of up, times T rows of x.
fn flat_pair(row: u32, t0: u32, n: u32) -> array<vec4<f32>, T> {
    var acc: array<vec4<f32>, T>;
    for (var run = 0u; run < RUNS; run++) {
        let a = load_run_0(row_base_0(row_at_0(row)), run);
        let b = load_run_0(row_base_0(row_at_0(row + 1u)), run);
        let c = load_run_1(row_base_1(row_at_1(row)), run);
        let d = load_run_1(row_base_1(row_at_1(row + 1u)), run);
        for (var t = 0u; t < T; t++) {
            let v = load_x_at((min(t0 + t, n - 1u) * RUNS + run) * 8u);
            acc[t] += vec4<f32>(dot_run(a, v), dot_run(b, v), dot_run(c, v), dot_run(d, v));
        }
    }
    return acc;
}
