// matmul for rows that are not a multiple of a run, one output per thread. Only unquantised types have such rows.
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let row = (wid.x + wid.y * GRID_X) * 64u + tid;
    if (row >= ROWS) {
        return;
    }
    var s = 0.0;
    for (var c = 0u; c < COLS; c++) {
        s = fma(w_at(row * COLS + c), x[wid.z * COLS + c], s);
    }
    y[wid.z * Y_COLS + ROW0 + row] = s;
}
