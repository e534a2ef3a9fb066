// rms_norm(x): W (f x w) is f (W (x w)), so the squares are summed as x is staged, and f is applied last.
var<private> squares: array<f32, T>;
fn prepare(tid: u32) {}
fn load_x(t: u32, i: u32, valid: bool) -> vec4<f32> {
    let v = x[x_index(t) + i];
    squares[t] += select(0.0, dot(v, v), valid);
    return v * table[i];
}
fn keep_x(t: u32, i: u32, first: bool) {}
