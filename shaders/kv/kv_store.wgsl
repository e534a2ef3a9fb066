// Each row of x becomes the row of its token's position.
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> state: array<V>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < N) {
        state[kv_row(row_table(id.z), row_pos(id.z)) * N + id.x] = x[id.z * N + id.x];
    }
}
