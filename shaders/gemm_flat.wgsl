// y[t][row] = W[row] . x[t]. A thread owns four rows of W and T rows of x, without a barrier: software adapters, for which
// this is, pay dearly for barriers and for each load, so a loaded x serves four rows and an unpacked run T columns.
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let row = ((wid.x + wid.y * GRID_X) * WG + tid) * 4u;
    let n = select(now.tokens, now.outputs, OF_OUTPUTS);
    let t0 = wid.z * T;
    let base = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(ROWS - 1u)) * ROW_BYTES;
    var acc: array<vec4<f32>, T>;
    for (var run = 0u; run < RUNS; run++) {
        let a = load_run(base.x, run);
        let b = load_run(base.y, run);
        let c = load_run(base.z, run);
        let d = load_run(base.w, run);
        for (var t = 0u; t < T; t++) {
            let v = load_x((min(t0 + t, n - 1u) * RUNS + run) * 8u);
            acc[t] += vec4<f32>(dot_run(a, v), dot_run(b, v), dot_run(c, v), dot_run(d, v));
        }
    }
    for (var t = 0u; t < min(T, n - t0); t++) {
        let o = (t0 + t) * Y_COLS + ROW0 + row;
        for (var r = 0u; r < min(4u, ROWS - min(ROWS, row)); r++) {
            y[o + r] = acc[t][r];
        }
    }
}
