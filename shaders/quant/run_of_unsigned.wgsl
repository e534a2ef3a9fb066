// A run of f32 from unsigned int8 with a scale and a minimum.
fn from_unsigned(q: u32, d: f32, m: f32) -> vec4<f32> { return fma(vec4<f32>(unpack4xU8(q)), vec4<f32>(d), vec4<f32>(m)); }
fn load_run(row: u32, run: u32) -> Run {
    let q = load_ints(row, run);
    let d = q.d;
    let m = q.m;
    return Run(
        from_unsigned(q.low.x, d.x, m.x), from_unsigned(q.low.y, d.x, m.x),
        from_unsigned(q.low.z, d.x, m.x), from_unsigned(q.low.w, d.x, m.x),
        from_unsigned(q.high.x, d.y, m.y), from_unsigned(q.high.y, d.y, m.y),
        from_unsigned(q.high.z, d.y, m.y), from_unsigned(q.high.w, d.y, m.y));
}
// Adds four of the integers times v to s.
fn times_four(q: u32, v: vec4<f32>, s: f32) -> f32 {
    let f = vec4<f32>(unpack4xU8(q));
    return fma(f.x, v.x, fma(f.y, v.y, fma(f.z, v.z, fma(f.w, v.w, s))));
}
