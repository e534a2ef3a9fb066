// The row of each token's position becomes its row of y.
@group(0) @binding(1) var<storage, read> state: array<V>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<V>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < N) {
        y[id.z * N + id.x] = state[kv_row(row_table(id.z), row_pos(id.z)) * N + id.x];
    }
}
