// y[t][i][row] = W[expert i of t][row] . x, the gemv of one expert of one token: i is y of the grid, t is z. W holds the
// rows of all experts one after another, Y_ROWS for each; this part of it has rows ROW0 to ROW0 + ROWS and may begin or
// end inside an expert. x is one row for all experts of a token (SHARED), or one for each.
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> route: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> part: array<f32, LANES * GROUPS * NR>;

@compute @workgroup_size(LANES * GROUPS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let expert = min(u32(route[wid.z * 2u * USED + wid.y]), EXPERTS - 1u);
    let first = wid.x * GROUPS * NR;
    // The rows of this workgroup, counted over all experts.
    let begin = expert * Y_ROWS + first;
    if (begin >= ROW0 + ROWS || begin + GROUPS * NR <= ROW0) {
        return;
    }
    let mine = begin + (tid / LANES) * NR;
    let slot = wid.z * USED + wid.y;
    let x_base = select(slot, wid.z, SHARED) * RUNS * 8u;
    var acc: array<f32, NR>;
    for (var run = tid % LANES; run < RUNS; run += LANES) {
        let v = load_x(x_base + run * 8u);
        for (var r = 0u; r < NR; r++) {
            let row = clamp(mine + r, ROW0, ROW0 + ROWS - 1u) - ROW0;
            acc[r] += dot_run(load_run(row * ROW_BYTES, run), v);
        }
    }
    for (var r = 0u; r < NR; r++) {
        part[tid * NR + r] = acc[r];
    }
    workgroupBarrier();
    for (var i = tid; i < GROUPS * NR; i += LANES * GROUPS) {
        if (first + i < Y_ROWS && begin + i >= ROW0 && begin + i < ROW0 + ROWS) {
            let at = (i / NR) * LANES * NR + i % NR;
            var s = 0.0;
            for (var l = 0u; l < LANES; l++) {
                s += part[at + l * NR];
            }
            y[slot * Y_ROWS + first + i] = s;
        }
    }
}
