// Row t of those that the workgroup has, or the last one.
fn x_index(t: u32) -> u32 { return min(x_row + t, x_last) * RUNS * 8u; }
fn x_run(t: u32, run: u32) -> Run {
    return load_x_at(x_index(t) + run * 8u);
}
fn times_run(p: Run, q: Run) -> Run {
    return Run(p.a * q.a, p.b * q.b, p.c * q.c, p.d * q.d, p.e * q.e, p.f * q.f, p.g * q.g, p.h * q.h);
}
