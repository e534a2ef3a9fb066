// y[t][row] = W[row] . x[t] in int8, in small tiles: a workgroup of 128 threads computes TILE rows of W (16 or 32) times
// TILE rows of x. AT_ONCE runs of 32 columns are in workgroup memory, each multiplied by threads of its own, which add up
// their sums at the end. Those of the next turn are loaded meanwhile: few workgroups do not hide how long that takes. A
// thread has 4 rows and TILE / 4 columns. For gate and up, the tile is TILE / 2 rows of each; a thread has the same rows
// of both. `tile_*` defines which rows of x and of y a tile has.
const AT_ONCE: u32 = 128u / TILE;
const COLUMNS: u32 = TILE / 4u;

// Six planes: of W both halves, and their scales and minima; of x both halves, and the scale and the scaled sums of the
// halves. Rows of a run are side by side; runs are padded, so that threads that write several write to different banks.
const STRIDE: u32 = TILE + TILE / 16u;
const PLANE: u32 = AT_ONCE * STRIDE;
var<workgroup> staged: array<vec4<u32>, 6u * PLANE>;

fn of_rows(i: u32) -> array<vec4<u32>, 4> {
    return array<vec4<u32>, 4>(staged[i], staged[i + COLUMNS], staged[i + 2u * COLUMNS], staged[i + 3u * COLUMNS]);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let at = segment(wid.x + wid.y * GRID_X);
    let row0 = at.y * (TILE / HALVES);
    let n = choose_tile(wid.z, row0, tid);
    if (n == 0u) {
        return;
    }
    // What a thread loads: neighbours load neighbouring runs.
    let own = tid % AT_ONCE;
    let i = tid / AT_ONCE;
    let x_base = x_of(min(i, n - 1u)) * RUNS;
    let p = own * STRIDE + i;
    // What it multiplies.
    let lane = tid % TILE;
    let w_at = tid / TILE * STRIDE + lane % COLUMNS;
    let x_at = tid / TILE * STRIDE + lane / COLUMNS * COLUMNS + 3u * PLANE;
    let first = min(own, RUNS - 1u);
    var q = load_w(at.x, row0, i, first);
    var o = (x_base + first) * 3u;
    var x_low = x[o];
    var x_high = x[o + 1u];
    var x_scale = x[o + 2u];
    // For each column the four rows, COLUMNS apart.
    var acc: array<vec4<f32>, COLUMNS>;
    for (var run0 = 0u; run0 < RUNS; run0 += AT_ONCE) {
        staged[p] = q.low;
        staged[p + PLANE] = q.high;
        staged[p + 2u * PLANE] = bitcast<vec4<u32>>(vec4<f32>(q.d, q.m));
        staged[p + 3u * PLANE] = x_low;
        staged[p + 4u * PLANE] = x_high;
        staged[p + 5u * PLANE] = select(vec4<u32>(0u), x_scale, run0 + own < RUNS);
        workgroupBarrier();
        let next = min(run0 + AT_ONCE + own, RUNS - 1u);
        q = load_w(at.x, row0, i, next);
        o = (x_base + next) * 3u;
        x_low = x[o];
        x_high = x[o + 1u];
        x_scale = x[o + 2u];
        let a = of_rows(w_at);
        let b = of_rows(w_at + PLANE);
        let e = of_rows(w_at + 2u * PLANE);
        let s = mat4x4<f32>(
            bitcast<vec4<f32>>(e[0]), bitcast<vec4<f32>>(e[1]), bitcast<vec4<f32>>(e[2]), bitcast<vec4<f32>>(e[3]));
        let d = transpose(s);
        for (var c = 0u; c < COLUMNS; c++) {
            let v = bitcast<vec4<f32>>(staged[x_at + c + 2u * PLANE]);
            acc[c] = add_products(acc[c], a, b, d, staged[x_at + c], staged[x_at + c + PLANE], v);
        }
        workgroupBarrier();
    }
    // The sums of four columns of all threads at a time.
    for (var c0 = 0u; c0 < COLUMNS; c0 += 4u) {
        for (var c = 0u; c < 4u; c++) {
            staged[c * 128u + tid] = bitcast<vec4<u32>>(acc[c0 + c]);
        }
        workgroupBarrier();
        if (tid < 4u * TILE) {
            var sum = vec4<f32>(0.0);
            for (var k = 0u; k < AT_ONCE; k++) {
                sum += bitcast<vec4<f32>>(staged[tid / TILE * 128u + k * TILE + lane]);
            }
            let c = lane / COLUMNS * COLUMNS + c0 + tid / TILE;
            for (var r = 0u; r < 4u / HALVES; r++) {
                let row = row0 + lane % COLUMNS + r * COLUMNS;
                if (c < n && stored(at.x, row)) {
                    store(at.x, y_of(c), row, sum[r], sum[min(r + 2u, 3u)]);
                }
            }
        }
        workgroupBarrier();
    }
}
