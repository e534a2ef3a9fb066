// y[t][row] = W[row] . x[t]. A thread owns four rows of W (for gate and up, two of each) and T rows of x, without a
// barrier: on software adapters, which this kernel is for, barriers and loads are expensive, so a loaded x is used for
// four rows and an unpacked run for T columns.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let at = segment(wid.x + wid.y * GRID_X);
    let row = (at.y * WG + tid) * (4u / HALVES);
    let n = select(now.tokens, now.outputs, OF_OUTPUTS);
    let t0 = (wid.z + now.skipped) * T;
    var acc = flat_of(at.x, row, t0, n);
    for (var t = 0u; t < min(T, n - t0); t++) {
        for (var r = 0u; r < 4u / HALVES; r++) {
            if (row + r < rows_in(at.x)) {
                store(at.x, t0 + t, row + r, acc[t][r], acc[t][min(r + 2u, 3u)]);
            }
        }
    }
}
