// A run of x, and the product of two runs.
fn load_x_at(base: u32) -> Run {
    return Run(x[base], x[base + 1u], x[base + 2u], x[base + 3u], x[base + 4u], x[base + 5u], x[base + 6u], x[base + 7u]);
}
fn dot_run(p: Run, q: Run) -> f32 {
    var s = p.a * q.a;
    s = fma(p.b, q.b, s);
    s = fma(p.c, q.c, s);
    s = fma(p.d, q.d, s);
    s = fma(p.e, q.e, s);
    s = fma(p.f, q.f, s);
    s = fma(p.g, q.g, s);
    s = fma(p.h, q.h, s);
    return (s.x + s.y) + (s.z + s.w);
}
