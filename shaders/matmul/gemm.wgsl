// y[t][row] = W[row] . x[t]; a workgroup of 64 threads computes a tile of 64 rows of W and TILE rows of x. For each run
// of 32 columns both are unpacked into workgroup memory, row by row in vectors of four columns; then each thread
// multiplies 8 rows, 8 apart, by TILE / 8 columns in registers. For gate and up, the tile is 32 rows of each; a thread
// has the same rows of both. `tile_*` defines which rows of x and of y a tile has.
const COLUMNS: u32 = TILE / 8u;

// 8 KiB and TILE * 128 bytes: together at most the 16 KiB that every device has. Vector k of a row of W is stored at k
// ^ (row % 8), so that the 8 threads that read it from neighbouring rows read from different banks. A row of x is read
// by all 8 threads together.
var<workgroup> ws: array<vec4<f32>, 512>;
var<workgroup> xs: array<vec4<f32>, TILE * 8u>;

fn dot4(a: vec4<f32>, b: vec4<f32>, s: f32) -> f32 {
    return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, s))));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let at = segment(wid.x + wid.y * GRID_X);
    let row0 = at.y * (64u / HALVES);
    let n = choose_tile(wid.z, row0, tid);
    if (n == 0u) {
        return;
    }
    let tr = tid % 8u;
    let tc = tid / 8u;
    var x_at: array<u32, COLUMNS>;
    for (var c = 0u; c < COLUMNS; c++) {
        x_at[c] = x_of(min(tc + 8u * c, n - 1u)) * RUNS * 8u + tr;
    }
    // Of each column the rows tr, tr + 8, tr + 16, tr + 24, and those 32 further.
    var low: array<vec4<f32>, COLUMNS>;
    var high: array<vec4<f32>, COLUMNS>;
    for (var run = 0u; run < RUNS; run++) {
        let r = load_w(at.x, row0, tid, run);
        let p = tid * 8u;
        ws[p + tr] = r.a;
        ws[p + (1u ^ tr)] = r.b;
        ws[p + (2u ^ tr)] = r.c;
        ws[p + (3u ^ tr)] = r.d;
        ws[p + (4u ^ tr)] = r.e;
        ws[p + (5u ^ tr)] = r.f;
        ws[p + (6u ^ tr)] = r.g;
        ws[p + (7u ^ tr)] = r.h;
        for (var c = 0u; c < COLUMNS; c++) {
            xs[c * 64u + tid] = x[x_at[c] + run * 8u];
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let o = tr * 8u + (k ^ tr);
            let a = array<vec4<f32>, 4>(ws[o], ws[o + 64u], ws[o + 128u], ws[o + 192u]);
            let b = array<vec4<f32>, 4>(ws[o + 256u], ws[o + 320u], ws[o + 384u], ws[o + 448u]);
            for (var c = 0u; c < COLUMNS; c++) {
                let v = xs[c * 64u + tc * 8u + k];
                let l = low[c];
                let h = high[c];
                low[c] = vec4<f32>(dot4(a[0], v, l.x), dot4(a[1], v, l.y), dot4(a[2], v, l.z), dot4(a[3], v, l.w));
                high[c] = vec4<f32>(dot4(b[0], v, h.x), dot4(b[1], v, h.y), dot4(b[2], v, h.z), dot4(b[3], v, h.w));
            }
        }
        workgroupBarrier();
    }
    for (var c = 0u; c < COLUMNS && tc + 8u * c < n; c++) {
        let t = y_of(tc + 8u * c);
        for (var r = 0u; r < 4u; r++) {
            let row = row0 + tr + 8u * r;
            if (stored(at.x, row)) {
                store(at.x, t, row, low[c][r], high[c][r]);
            }
            if (HALVES == 1u && stored(at.x, row + 32u)) {
                store(at.x, t, row + 32u, high[c][r], 0.0);
            }
        }
    }
}
