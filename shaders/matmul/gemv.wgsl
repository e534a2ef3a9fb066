// y[t][row] = W[row] . x[t] for T rows of x, and for the rows of several matrices. LANES threads share NR rows: each
// takes every LANES-th run, so that neighbours read neighbouring blocks. Then WG / (sums) threads add up each sum, in
// two rounds. What happens to x before, and to y after, is in `pre_*` and in `store`.

// Sums of the rows, then (where x is normed) the squares of each row of x.
const SUMS: u32 = NR * T + SQUARES * T;
const OUT: u32 = NR / HALVES;

var<workgroup> part: array<f32, SUMS * WG>;
var<workgroup> sums: array<f32, SUMS * GROUPS * SHARE>;

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
    prepare(tid, number == 0u);
    let lane = tid % LANES;
    let group = tid / LANES;
    let first = at.y * GROUPS * OUT;
    var acc: array<f32, NR * T>;
    for (var e = 0u; e < EXPERTS_SUMMED; e++) {
        let share = choose_expert(wid.z, e);
        var more = rows_of(at.x, first + group * OUT, lane);
        for (var i = 0u; i < NR * T; i++) {
            acc[i] = fma(select(0.0, share, counted(first + group * OUT + i % NR / HALVES)), more[i], acc[i]);
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
            let o = t * NR + (r % OUT) * HALVES;
            let f = factor(t, g);
            var high = 0.0;
            if (HALVES == 2u) {
                high = f * total(o + HALVES - 1u, g);
            }
            store(at.x, y_row + t, row, f * total(o, g), high);
        }
    }
}
