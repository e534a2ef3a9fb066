// Row t of x becomes the row of position pos + t.
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> state: array<V>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < N) {
        state[kv_row(now.pos + id.z) * N + id.x] = x[id.z * N + id.x];
    }
}
