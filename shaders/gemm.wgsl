// y[t][row] = W[row] . x[t], a tile of 64 rows of W and TILE rows of x a workgroup of 64 threads. For each run of 32
// columns the tiles are unpacked into workgroup memory, k-major, so that the threads of a row read neighbours; then each
// thread multiplies 8 rows by TILE / 8 columns in registers. Where gate and up are multiplied, the tile is 32 rows of
// each; a thread has the same rows of both. Which rows of x and of y a tile has is in `tile_*`.
const COLUMNS: u32 = TILE / 8u;
// Threads that share the loading of a row of x, and the vectors that each takes.
const LOADERS: u32 = 64u / TILE;
const TAKE: u32 = 8u / LOADERS;

// 8 KiB and TILE * 128 bytes: together no more than the 16 KiB that every device has.
var<workgroup> ws: array<f32, 2048>;
var<workgroup> xs: array<f32, TILE * 32u>;

fn put_w(k: u32, row: u32, v: vec4<f32>) {
    ws[k * 64u + row] = v.x;
    ws[k * 64u + 64u + row] = v.y;
    ws[k * 64u + 128u + row] = v.z;
    ws[k * 64u + 192u + row] = v.w;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let at = segment(wid.x + wid.y * GRID_X);
    let row0 = at.y * (64u / HALVES);
    let n = choose_tile(wid.z, row0, tid);
    if (n == 0u) {
        return;
    }
    let x_row = tid % TILE;
    let x_part = tid / TILE * TAKE;
    let x_base = x_of(min(x_row, n - 1u)) * RUNS * 8u + x_part;
    let tr = (tid % 8u) * 4u;
    let tc = (tid / 8u) * COLUMNS;
    var low: array<vec4<f32>, COLUMNS>;
    var high: array<vec4<f32>, COLUMNS>;
    for (var run = 0u; run < RUNS; run++) {
        let r = load_w(at.x, row0, tid, run);
        put_w(0u, tid, r.a);
        put_w(4u, tid, r.b);
        put_w(8u, tid, r.c);
        put_w(12u, tid, r.d);
        put_w(16u, tid, r.e);
        put_w(20u, tid, r.f);
        put_w(24u, tid, r.g);
        put_w(28u, tid, r.h);
        for (var i = 0u; i < TAKE; i++) {
            let v = x[x_base + run * 8u + i];
            let k = (x_part + i) * 4u;
            xs[k * TILE + x_row] = v.x;
            xs[(k + 1u) * TILE + x_row] = v.y;
            xs[(k + 2u) * TILE + x_row] = v.z;
            xs[(k + 3u) * TILE + x_row] = v.w;
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let p = k * 64u + tr;
            let a = vec4<f32>(ws[p], ws[p + 1u], ws[p + 2u], ws[p + 3u]);
            let b = vec4<f32>(ws[p + 32u], ws[p + 33u], ws[p + 34u], ws[p + 35u]);
            for (var c = 0u; c < COLUMNS; c++) {
                let v = vec4<f32>(xs[k * TILE + tc + c]);
                low[c] = fma(a, v, low[c]);
                high[c] = fma(b, v, high[c]);
            }
        }
        workgroupBarrier();
    }
    for (var c = 0u; c < COLUMNS && tc + c < n; c++) {
        let t = y_of(tc + c);
        for (var r = 0u; r < 4u; r++) {
            let row = row0 + tr + r;
            if (stored(at.x, row)) {
                store(at.x, t, row, low[c][r], high[c][r]);
            }
            if (HALVES == 1u && stored(at.x, row + 32u)) {
                store(at.x, t, row + 32u, high[c][r], 0.0);
            }
        }
    }
}
