// y[t][row] = W[row] . x[t] in int8; a workgroup of 128 threads computes a tile of 64 rows of W and TILE rows of x. Two
// runs of 32 columns at a time are in workgroup memory as int8, four per word, with their scales; a thread has 4 rows,
// 16 apart so that neighbours read neighbours, and TILE / 8 columns. For gate and up, the tile is 32 rows of each; a
// thread has the same rows of both. `tile_*` defines which rows of x and of y a tile has.
const COLUMNS: u32 = TILE / 8u;

// For each run and row: both halves, and their scales and minima (of x: the scale, and the scaled sums of the halves).
// 12 KiB in total.
var<workgroup> w_low: array<vec4<u32>, 128>;
var<workgroup> w_high: array<vec4<u32>, 128>;
var<workgroup> w_scale: array<vec4<f32>, 128>;
var<workgroup> x_low: array<vec4<u32>, 128>;
var<workgroup> x_high: array<vec4<u32>, 128>;
var<workgroup> x_scale: array<vec4<f32>, 128>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let at = segment(wid.x + wid.y * GRID_X);
    let row0 = at.y * (64u / HALVES);
    let n = choose_tile(wid.z, row0, tid);
    if (n == 0u) {
        return;
    }
    let x_base = x_of(min(tid % 64u, n - 1u)) * RUNS;
    let tr = tid % 16u;
    let tc = tid / 16u * COLUMNS;
    // For each column the four rows.
    var acc: array<vec4<f32>, COLUMNS>;
    for (var run0 = 0u; run0 < RUNS; run0 += 2u) {
        let own = run0 + tid / 64u;
        let run = min(own, RUNS - 1u);
        let q = load_w(at.x, row0, tid % 64u, run);
        let o = (x_base + run) * 3u;
        w_low[tid] = q.low;
        w_high[tid] = q.high;
        w_scale[tid] = vec4<f32>(q.d, q.m);
        if (tid % 64u < TILE) {
            x_low[tid] = x[o];
            x_high[tid] = x[o + 1u];
            x_scale[tid] = select(vec4<f32>(0.0), bitcast<vec4<f32>>(x[o + 2u]), own < RUNS);
        }
        workgroupBarrier();
        for (var r = tr; r < 128u; r += 64u) {
            let a = array<vec4<u32>, 4>(w_low[r], w_low[r + 16u], w_low[r + 32u], w_low[r + 48u]);
            let b = array<vec4<u32>, 4>(w_high[r], w_high[r + 16u], w_high[r + 32u], w_high[r + 48u]);
            let s = mat4x4<f32>(w_scale[r], w_scale[r + 16u], w_scale[r + 32u], w_scale[r + 48u]);
            let d = transpose(s);
            for (var c = 0u; c < COLUMNS; c++) {
                let i = r - tr + tc + c;
                acc[c] = add_products(acc[c], a, b, d, x_low[i], x_high[i], x_scale[i]);
            }
        }
        workgroupBarrier();
    }
    for (var c = 0u; c < COLUMNS && tc + c < n; c++) {
        for (var r = 0u; r < 4u / HALVES; r++) {
            let row = row0 + tr + r * 16u;
            if (stored(at.x, row)) {
                store(at.x, y_of(tc + c), row, acc[c][r], acc[c][min(r + 2u, 3u)]);
            }
        }
    }
}
