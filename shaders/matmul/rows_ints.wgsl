// OUT rows of this matrix from `first` on, times the staged runs of x, from `run0` on: this lane's parts of SPAN runs.
// Integers are multiplied unscaled, and each half of a run is scaled once.
fn times(q: vec4<u32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> f32 {
    return times_four(q.w, d, times_four(q.z, c, times_four(q.y, b, times_four(q.x, a, 0.0))));
}
// Run c of the parts, times row t of x.
fn add_run(p: ptr<function, array<Part, OUT>>, acc: ptr<function, array<f32, OUT * T>>, run: u32, t: u32, c: u32) {
    let own = run ^ (c * STEP);
    let v = staged_run(t, spread(own));
    let s = x_sums[t * STAGED + own];
    for (var r = 0u; r < OUT; r++) {
        let low = times(part_low((*p)[r], c), v.a, v.b, v.c, v.d);
        let high = times(part_high((*p)[r], c), v.e, v.f, v.g, v.h);
        let d = part_scale((*p)[r], c);
        var sum = fma(d.x, low, fma(d.y, high, (*acc)[t * OUT + r]));
        if (MINIMA) {
            let m = part_minimum((*p)[r], c);
            sum = fma(m.x, s.x, fma(m.y, s.y, sum));
        }
        (*acc)[t * OUT + r] = sum;
    }
}
fn rows(first: u32, lane: u32, run0: u32) -> array<f32, OUT * T> {
    var acc: array<f32, OUT * T>;
    for (var i = lane; i < min(STAGED, RUNS - run0) / SPAN; i += LANES) {
        var p: array<Part, OUT>;
        for (var r = 0u; r < OUT; r++) {
            p[r] = load_part(row_base(row_at(first + r)), run0 / SPAN + i);
        }
        for (var t = 0u; t < T; t++) {
            // Not a loop: compilers would not unroll a large one, and would evaluate branches on c in it.
            add_run(&p, &acc, part_run(i), t, 0u);
            if (SPAN == 2u) {
                add_run(&p, &acc, part_run(i), t, 1u);
            }
        }
    }
    return acc;
}
