// A run of f32 from signed int8 with a scale.
fn load_run(row: u32, run: u32) -> Run {
    let q = load_ints(row, run);
    let d = q.d;
    let m = q.m;
    return Run(
        vec4<f32>(unpack4xI8(q.low.x)) * d.x + m.x, vec4<f32>(unpack4xI8(q.low.y)) * d.x + m.x,
        vec4<f32>(unpack4xI8(q.low.z)) * d.x + m.x, vec4<f32>(unpack4xI8(q.low.w)) * d.x + m.x,
        vec4<f32>(unpack4xI8(q.high.x)) * d.y + m.y, vec4<f32>(unpack4xI8(q.high.y)) * d.y + m.y,
        vec4<f32>(unpack4xI8(q.high.z)) * d.y + m.y, vec4<f32>(unpack4xI8(q.high.w)) * d.y + m.y);
}
