// y = (x - mean(x)) / sqrt(variance(x) + EPS) * w + b over each row of N vectors; one workgroup per row. The table has w, and
// b from vector BIAS on.
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> table: array<V>;
@group(0) @binding(3) var<storage, read_write> y: array<V>;

var<workgroup> part: array<f32, WG>;

// The sum of all threads' parts, added up by each.
fn sum_parts(tid: u32, s: f32) -> f32 {
    workgroupBarrier();
    part[tid] = s;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < WG; i++) {
        total += part[i];
    }
    return total;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let base = wid.z * N;
    var s = 0.0;
    for (var i = tid; i < N; i += WG) {
        s += sum_v(x[base + i]);
    }
    let mean = V(sum_parts(tid, s) / f32(N * VW));
    s = 0.0;
    for (var i = tid; i < N; i += WG) {
        let v = x[base + i] - mean;
        s += dot_v(v, v);
    }
    let f = 1.0 / sqrt(sum_parts(tid, s) / f32(N * VW) + EPS);
    for (var i = tid; i < N; i += WG) {
        y[base + i] = (x[base + i] - mean) * f * table[i] + table[BIAS + i];
    }
}
