// rms_norm(x + rms_norm(added)). The first workgroup also writes the sum. The table has the outer norm's weight, then
// the inner one's.
var<private> squares: array<f32, T>;
var<private> added_factor: array<f32, T>;
// Sums in `part`, which is unused until the product is done.
fn prepare(tid: u32) {
    for (var t = 0u; t < T; t++) {
        var s = 0.0;
        for (var i = tid; i < RUNS * 8u; i += WG) {
            let v = added[x_index(t) + i];
            s += dot(v, v);
        }
        part[t * WG + tid] = s;
    }
    workgroupBarrier();
    for (var i = tid; i < T * 8u; i += WG) {
        var s = 0.0;
        for (var l = i % 8u; l < WG; l += 8u) {
            s += part[i / 8u * WG + l];
        }
        // Only this thread accesses the words with this remainder.
        part[i / 8u * WG + i % 8u] = s;
    }
    workgroupBarrier();
    for (var t = 0u; t < T; t++) {
        var s = 0.0;
        for (var l = 0u; l < 8u; l++) {
            s += part[t * WG + l];
        }
        added_factor[t] = 1.0 / sqrt(s / f32(RUNS * 32u) + ADDED_EPS);
    }
}
fn sum_at(t: u32, i: u32) -> vec4<f32> {
    let o = x_index(t) + i;
    return x[o] + added[o] * added_factor[t] * table[RUNS * 8u + i];
}
fn load_x(t: u32, i: u32, valid: bool) -> vec4<f32> {
    let v = sum_at(t, i);
    squares[t] += select(0.0, dot(v, v), valid);
    return v * table[i];
}
fn keep_x(t: u32, i: u32, first: bool) {
    if (first && x_row + t <= x_last) {
        sum[x_index(t) + i] = sum_at(t, i);
    }
}
