// y = x / sqrt(mean(x^2) + EPS) * w over each run of N vectors, then `finish`; one workgroup per run, RUNS of them in a
// row.
var<workgroup> part: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let base = (wid.z * RUNS + wid.x) * N;
    var s = 0.0;
    for (var i = tid; i < N; i += WG) {
        let v = x[base + i];
        s += dot_v(v, v);
    }
    part[tid] = s;
    workgroupBarrier();
    // Every thread adds up all parts: cheaper than a tree, which needs a barrier per level.
    var total = 0.0;
    for (var i = 0u; i < WG; i++) {
        total += part[i];
    }
    let f = 1.0 / sqrt(total / f32(N * VW) + EPS);
    for (var i = tid; i < N; i += WG) {
        y[base + i] = finish(wid.z, wid.x * N + i, x[base + i] * f * w_v(i));
    }
}
