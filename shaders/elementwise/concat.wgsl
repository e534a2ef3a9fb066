// Rows of a, of LEFT vectors, each followed by its row of b; N vectors make a row of y.
@group(0) @binding(1) var<storage, read> a: array<V>;
@group(0) @binding(2) var<storage, read> b: array<V>;
@group(0) @binding(3) var<storage, read_write> y: array<V>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < LEFT) {
        y[id.z * N + id.x] = a[id.z * LEFT + id.x];
    } else if (id.x < N) {
        y[id.z * N + id.x] = b[id.z * (N - LEFT) + id.x - LEFT];
    }
}
