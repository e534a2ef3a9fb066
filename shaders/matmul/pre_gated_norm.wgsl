// act(gate) * rms_norm(x), the norm over each head of HEAD vectors. Four threads per head sum its squares.
const HEADS: u32 = RUNS * 8u / HEAD;
var<workgroup> head_part: array<f32, 4u * T * HEADS>;
fn prepare(tid: u32) {
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
fn load_x(t: u32, i: u32, valid: bool) -> vec4<f32> { return gated(t, i, x[x_index(t) + i]); }
fn stage_squares(tid: u32) {}
fn factor(t: u32) -> f32 { return 1.0; }
fn keep_x(t: u32, i: u32, first: bool) {}
