// The same row of two matrices, gate and up, side by side.
fn rows_pair(first: u32, lane: u32) -> array<f32, NR * T> {
    var acc: array<f32, NR * T>;
    for (var run = lane; run < RUNS; run += LANES) {
        if (T == 1u) {
            let v = load_x(0u, run);
            for (var r = 0u; r < NR; r += 2u) {
                acc[r] += dot_run(load_run_0(row_base_0(row_at_0(first + r / 2u)), run), v);
                acc[r + 1u] += dot_run(load_run_1(row_base_1(row_at_1(first + r / 2u)), run), v);
            }
        } else {
            var p: array<Run, NR>;
            for (var r = 0u; r < NR; r += 2u) {
                p[r] = load_run_0(row_base_0(row_at_0(first + r / 2u)), run);
                p[r + 1u] = load_run_1(row_base_1(row_at_1(first + r / 2u)), run);
            }
            for (var t = 0u; t < T; t++) {
                let v = load_x(t, run);
                for (var r = 0u; r < NR; r++) {
                    acc[t * NR + r] += dot_run(p[r], v);
                }
            }
        }
    }
    return acc;
}
