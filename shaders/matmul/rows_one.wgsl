// NR rows of this matrix from `first` on, times the T rows of x: the runs that are this lane's.
fn rows(first: u32, lane: u32) -> array<f32, NR * T> {
    var acc: array<f32, NR * T>;
    for (var run = lane; run < RUNS; run += LANES) {
        if (T == 1u) {
            let v = load_x(0u, run);
            for (var r = 0u; r < NR; r++) {
                acc[r] += dot_run(load_run(row_base(row_at(first + r)), run), v);
            }
        } else {
            var p: array<Run, NR>;
            for (var r = 0u; r < NR; r++) {
                p[r] = load_run(row_base(row_at(first + r)), run);
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
