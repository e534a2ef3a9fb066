// y[row] = W[row] . x for one row x. LANES threads share NR rows: each takes every LANES-th run, so that neighbours read
// neighbouring blocks, and uses the x that it loaded for all NR rows. One barrier, then one thread a row adds up.
@group(0) @binding(1) var<storage, read> w: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

var<workgroup> part: array<f32, LANES * GROUPS * NR>;

@compute @workgroup_size(LANES * GROUPS)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let first = (wid.x + wid.y * GRID_X) * GROUPS * NR;
    let mine = first + (tid / LANES) * NR;
    var acc: array<f32, NR>;
    for (var run = tid % LANES; run < RUNS; run += LANES) {
        let v = load_x(run * 8u);
        for (var r = 0u; r < NR; r++) {
            acc[r] += dot_run(load_run(min(mine + r, ROWS - 1u) * ROW_BYTES, run), v);
        }
    }
    for (var r = 0u; r < NR; r++) {
        part[tid * NR + r] = acc[r];
    }
    workgroupBarrier();
    let row = first + tid;
    if (tid < GROUPS * NR && row < ROWS) {
        let at = (tid / NR) * LANES * NR + tid % NR;
        var s = 0.0;
        for (var l = 0u; l < LANES; l++) {
            s += part[at + l * NR];
        }
        y[ROW0 + row] = s;
    }
}
