// rms_norm(x): W (f x w) is f (W (x w)), so the squares are summed along with the products, and f comes last.
var<private> squares: array<f32, T>;
fn prepare(tid: u32, first: bool) {}
fn load_x(t: u32, run: u32) -> Run {
    let v = x_run(t, run);
    squares[t] += dot_run(v, v);
    return times_run(v, table_run(run * 8u));
}
