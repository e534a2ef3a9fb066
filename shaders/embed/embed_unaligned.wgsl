// embed for rows that are not a multiple of a run, one value per thread. Only unquantised types have such rows.
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = row_id(id.z) - ROW0;
    if (id.x >= COLS || row >= ROWS) {
        return;
    }
    y[id.z * COLS + id.x] = w_at(row * COLS + id.x) * SCALE;
}
