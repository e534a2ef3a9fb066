// moe_matmul for rows that are not a multiple of a run, one output per thread. Only unquantised types have such rows.
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> route: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let expert = min(u32(route[id.z * 2u * USED + id.y]), EXPERTS - 1u);
    let row = expert * Y_ROWS + id.x;
    if (id.x >= Y_ROWS || row < ROW0 || row >= ROW0 + ROWS) {
        return;
    }
    let slot = id.z * USED + id.y;
    let x_base = select(slot, id.z, SHARED) * COLS;
    var s = 0.0;
    for (var c = 0u; c < COLS; c++) {
        s = fma(w_at((row - ROW0) * COLS + c), x[x_base + c], s);
    }
    y[slot * Y_ROWS + id.x] = s;
}
