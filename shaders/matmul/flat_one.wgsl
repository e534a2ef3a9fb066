// Four rows of this matrix from `row` on, times T rows of x.
fn flat(row: u32, t0: u32, n: u32) -> array<vec4<f32>, T> {
    let base = vec4<u32>(
        row_base(row_at(row)), row_base(row_at(row + 1u)), row_base(row_at(row + 2u)), row_base(row_at(row + 3u)));
    var acc: array<vec4<f32>, T>;
    for (var run = 0u; run < RUNS; run++) {
        let a = load_run(base.x, run);
        let b = load_run(base.y, run);
        let c = load_run(base.z, run);
        let d = load_run(base.w, run);
        for (var t = 0u; t < T; t++) {
            let v = load_x_at((min(t0 + t, n - 1u) * RUNS + run) * 8u);
            acc[t] += vec4<f32>(dot_run(a, v), dot_run(b, v), dot_run(c, v), dot_run(d, v));
        }
    }
    return acc;
}
