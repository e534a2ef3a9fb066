// rms_norm(x + rms_norm(added)). The first workgroup also writes the sum. The table has the outer norm's weight, then
// the inner one's.
var<private> squares: array<f32, T>;
var<workgroup> added_part: array<f32, T * WG>;
var<workgroup> added_factor: array<f32, T>;
fn prepare(tid: u32, first: bool) {
    for (var t = 0u; t < T; t++) {
        var s = 0.0;
        for (var i = tid; i < RUNS * 8u; i += WG) {
            let v = added[x_index(t) + i];
            s += dot(v, v);
        }
        added_part[t * WG + tid] = s;
    }
    workgroupBarrier();
    for (var i = tid; i < T * 8u; i += WG) {
        var s = 0.0;
        for (var l = i % 8u; l < WG; l += 8u) {
            s += added_part[i / 8u * WG + l];
        }
        // Only this thread reads and writes the words with this remainder.
        added_part[i / 8u * WG + i % 8u] = s;
    }
    workgroupBarrier();
    for (var t = tid; t < T; t += WG) {
        var s = 0.0;
        for (var l = 0u; l < 8u; l++) {
            s += added_part[t * WG + l];
        }
        added_factor[t] = 1.0 / sqrt(s / f32(RUNS * 32u) + ADDED_EPS);
    }
    workgroupBarrier();
    if (first) {
        for (var t = 0u; t < T; t++) {
            for (var i = tid; i < RUNS * 8u && x_row + t <= x_last; i += WG) {
                let o = x_index(t) + i;
                sum[o] = x[o] + added[o] * added_factor[t] * table[RUNS * 8u + i];
            }
        }
    }
}
fn load_x(t: u32, run: u32) -> Run {
    let o = x_index(t) + run * 8u;
    let a = Run(
        added[o], added[o + 1u], added[o + 2u], added[o + 3u], added[o + 4u], added[o + 5u], added[o + 6u], added[o + 7u]);
    let b = times_run(a, table_run((RUNS + run) * 8u));
    let f = added_factor[t];
    let v = x_run(t, run);
    let s = Run(
        v.a + b.a * f, v.b + b.b * f, v.c + b.c * f, v.d + b.d * f, v.e + b.e * f, v.f + b.f * f, v.g + b.g * f,
        v.h + b.h * f);
    squares[t] += dot_run(s, s);
    return times_run(s, table_run(run * 8u));
}
