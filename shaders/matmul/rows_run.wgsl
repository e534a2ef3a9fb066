// OUT rows of this matrix from `first` on, times this lane's staged runs of x, from `run0` on.
fn rows(first: u32, lane: u32, run0: u32) -> array<f32, OUT * T> {
    var acc: array<f32, OUT * T>;
    for (var run = lane; run < min(STAGED, RUNS - run0); run += LANES) {
        if (T == 1u) {
            let v = staged_run(0u, spread(run));
            for (var r = 0u; r < OUT; r++) {
                acc[r] += dot_run(load_run(row_base(row_at(first + r)), run0 + run), v);
            }
        } else {
            var p: array<Run, OUT>;
            for (var r = 0u; r < OUT; r++) {
                p[r] = load_run(row_base(row_at(first + r)), run0 + run);
            }
            for (var t = 0u; t < T; t++) {
                let v = staged_run(t, spread(run));
                for (var r = 0u; r < OUT; r++) {
                    acc[t * OUT + r] += dot_run(p[r], v);
                }
            }
        }
    }
    return acc;
}
