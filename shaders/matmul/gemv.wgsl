// y[t][row] = W[row] . x[t] for T rows of x, and for the rows of several matrices. Runs of x, after what is fused
// before the product, are in workgroup memory, STAGED of each row at a time. LANES threads share OUT rows of each
// matrix: each takes every LANES-th part of a row, so that neighbours read neighbouring blocks. Then WG / (sums)
// threads add up each sum, in two rounds. `pre_*` and `store` define what happens to x before and to y after.

// Sums of the rows, then (if x is normed) the squares of each row of x.
const SUMS: u32 = NR * T + SQUARES * T;
const OUT: u32 = NR / HALVES;

// The first vectors of the staged runs of a row, then all second ones, and so on; padded by one, so that threads that
// write the vectors of a run write to different banks. With many rows there is no room for the padding.
const STRIDE: u32 = select(STAGED + 1u, STAGED, STAGED < 16u);
var<workgroup> xs: array<vec4<f32>, T * 8u * STRIDE>;
// For each staged run the sums of its halves, for types with minima.
var<workgroup> x_sums: array<vec2<f32>, T * STAGED>;
var<workgroup> part: array<f32, SUMS * WG>;
var<workgroup> sums: array<f32, SUMS * GROUPS * SHARE>;

// The place of a run among the staged ones: neighbouring threads read runs that are 1 apart, or 2, or in pairs 4 apart,
// always from different banks.
fn spread(run: u32) -> u32 {
    if (STAGED < 16u) {
        return run;
    }
    let low = ((run ^ (run >> 1u)) & 1u) | ((run >> 1u) & 2u) | (((run >> 1u) ^ (run << 1u)) & 4u) | ((run << 2u) & 8u);
    return (run & 0xfffffff0u) | low;
}
fn place(t: u32, k: u32, at: u32) -> u32 { return (t * 8u + k) * STRIDE + at; }

// Fills xs with the runs of x from `run0` on.
fn stage(tid: u32, run0: u32, first: bool) {
    let runs = min(STAGED, RUNS - run0);
    for (var t = 0u; t < T; t++) {
        for (var i = tid; i < runs * 8u; i += WG * AHEAD) {
            // All loads before the first store, since the compiler must assume that stores alias them.
            var v: array<vec4<f32>, AHEAD>;
            for (var u = 0u; u < AHEAD; u++) {
                let k = i + u * WG;
                v[u] = load_x(t, run0 * 8u + min(k, runs * 8u - 1u), k < runs * 8u);
            }
            for (var u = 0u; u < AHEAD; u++) {
                let k = i + u * WG;
                if (k < runs * 8u) {
                    xs[place(t, k & 7u, spread(k >> 3u))] = v[u];
                    keep_x(t, run0 * 8u + k, first);
                }
            }
        }
    }
    workgroupBarrier();
    if (MINIMA) {
        for (var i = tid; i < T * STAGED; i += WG) {
            let run = spread(i % STAGED);
            var low = vec4<f32>(0.0);
            var high = vec4<f32>(0.0);
            for (var k = 0u; k < 4u; k++) {
                low += xs[place(i / STAGED, k, run)];
                high += xs[place(i / STAGED, k + 4u, run)];
            }
            x_sums[i] = vec2<f32>((low.x + low.y) + (low.z + low.w), (high.x + high.y) + (high.z + high.w));
        }
        workgroupBarrier();
    }
}

fn total(sum: u32, group: u32) -> f32 {
    var s = 0.0;
    for (var i = 0u; i < SHARE; i++) {
        s += sums[(sum * GROUPS + group) * SHARE + i];
    }
    return s;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let number = wid.x + wid.y * GRID_X;
    let at = segment(number);
    choose_rows(wid.z);
    prepare(tid);
    let lane = tid % LANES;
    let group = tid / LANES;
    let first = at.y * GROUPS * OUT;
    var acc: array<f32, NR * T>;
    for (var e = 0u; e < EXPERTS_SUMMED; e++) {
        let share = choose_expert(wid.z, e);
        for (var run0 = 0u; run0 < RUNS; run0 += STAGED) {
            if (e + run0 > 0u) {
                workgroupBarrier();
            }
            stage(tid, run0, number == 0u);
            var more = rows_of(at.x, first + group * OUT, lane, run0);
            for (var i = 0u; i < NR * T; i++) {
                acc[i] = fma(select(0.0, share, counted(first + group * OUT + i % OUT)), more[i], acc[i]);
            }
        }
    }
    for (var i = 0u; i < NR * T; i++) {
        part[i * WG + tid] = acc[i];
    }
    stage_squares(tid);
    workgroupBarrier();
    for (var i = tid; i < SUMS * GROUPS * SHARE; i += WG) {
        let begin = i / SHARE * LANES + i % SHARE;
        var s = 0.0;
        for (var l = 0u; l < LANES; l += SHARE) {
            s += part[begin + l];
        }
        sums[i] = s;
    }
    workgroupBarrier();
    for (var i = tid; i < GROUPS * OUT * T; i += WG) {
        let r = i % (GROUPS * OUT);
        let t = i / (GROUPS * OUT);
        let row = first + r;
        if (stored(at.x, row) && y_row + t <= y_last) {
            let g = r / OUT;
            let o = t * OUT + r % OUT;
            let f = factor(t);
            var high = 0.0;
            if (HALVES == 2u) {
                high = f * total(o + OUT * T, g);
            }
            store(at.x, y_row + t, row, f * total(o, g), high);
        }
    }
}
