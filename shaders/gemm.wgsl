// y[t][row] = W[row] . x[t]. A thread owns one row of W and T rows of x: it unpacks a run of W once, into registers, and
// uses it T times. No barrier. With T = 1 it is the gemv of software adapters, where barriers are dear.
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let row = (wid.x + wid.y * GRID_X) * WG + tid;
    let n = select(now.tokens, now.outputs, OF_OUTPUTS);
    let t0 = wid.z * T;
    let base = min(row, ROWS - 1u) * ROW_BYTES;
    var acc: array<f32, T>;
    for (var run = 0u; run < RUNS; run++) {
        let r = load_run(base, run);
        for (var t = 0u; t < T; t++) {
            acc[t] += dot_run(r, load_x((min(t0 + t, n - 1u) * RUNS + run) * 8u));
        }
    }
    if (row < ROWS) {
        for (var t = 0u; t < T; t++) {
            if (t0 + t < n) {
                y[(t0 + t) * Y_COLS + ROW0 + row] = acc[t];
            }
        }
    }
}
