// The row of x of each row of logits becomes the row of the position after that of its token, in the same block.
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> state: array<V>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < N) {
        let row = row_of_output(id.z);
        state[(kv_row(row_table(row), row_pos(row)) + 1u) * N + id.x] = x[id.z * N + id.x];
    }
}
