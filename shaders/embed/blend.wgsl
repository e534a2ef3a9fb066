// y[t] = sum of rows of w, each times its share: a row of x is NUMBERS row numbers, and then PARTS shares. Without numbers
// those are of all rows. W has ROWS rows of N vectors.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<V>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= N) {
        return;
    }
    let base = id.z * (NUMBERS + PARTS);
    var s = V(0.0);
    for (var i = 0u; i < PARTS; i++) {
        var row = i;
        if (NUMBERS > 0u) {
            row = min(u32(max(x[base + i], 0.0)), ROWS - 1u);
        }
        s += x[base + NUMBERS + i] * w_v(row * N + id.x);
    }
    y[id.z * N + id.x] = s;
}
