// act(gate) * rms_norm(x), the norm over each head of HEAD vectors. Four threads a head sum its squares.
const HEADS: u32 = RUNS * 8u / HEAD;
var<workgroup> head_part: array<f32, 4u * T * HEADS>;
fn prepare(tid: u32, first: bool) {
    for (var i = tid; i < 4u * T * HEADS; i += WG) {
        let head = x_index(i / (4u * HEADS)) + i / 4u % HEADS * HEAD;
        var s = 0.0;
        for (var j = i % 4u; j < HEAD; j += 4u) {
            s += dot(x[head + j], x[head + j]);
        }
        head_part[i] = s;
    }
    workgroupBarrier();
}
fn gated(t: u32, i: u32, v: vec4<f32>) -> vec4<f32> {
    let p = (t * HEADS + i / HEAD) * 4u;
    let s = (head_part[p] + head_part[p + 1u]) + (head_part[p + 2u] + head_part[p + 3u]);
    let f = 1.0 / sqrt(s / f32(HEAD * 4u) + EPS);
    return act(gate_at(min(x_row + t, x_last), i)) * (v * f * table[i % HEAD]);
}
fn load_x(t: u32, run: u32) -> Run {
    let v = x_run(t, run);
    let i = run * 8u;
    return Run(
        gated(t, i, v.a), gated(t, i + 1u, v.b), gated(t, i + 2u, v.c), gated(t, i + 3u, v.d), gated(t, i + 4u, v.e),
        gated(t, i + 5u, v.f), gated(t, i + 6u, v.g), gated(t, i + 7u, v.h));
}
fn stage_squares(tid: u32) {}
fn factor(t: u32, group: u32) -> f32 { return 1.0; }
