// y = x / sqrt(sum(x^2) + EPS) * SCALE over each head of N vectors; one workgroup per head, HEADS of them in a row.
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> y: array<V>;

var<workgroup> part: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let base = (wid.z * HEADS + wid.x) * N;
    var s = 0.0;
    for (var i = tid; i < N; i += WG) {
        let v = x[base + i];
        s += dot_v(v, v);
    }
    part[tid] = s;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < WG; i++) {
        total += part[i];
    }
    let f = SCALE / sqrt(total + EPS);
    for (var i = tid; i < N; i += WG) {
        y[base + i] = x[base + i] * f;
    }
}
