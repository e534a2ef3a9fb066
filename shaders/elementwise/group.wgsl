// Some rows of x make a row of y, of N vectors: they lie one after another already.
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> y: array<V>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < N) {
        y[id.z * N + id.x] = x[id.z * N + id.x];
    }
}
