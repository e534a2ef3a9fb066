// 32 signed bytes; f16 scale.
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run);
    let d = half_at(t + BLOCKS * 32u, b);
    let q = w[t + b * 2u];
    let p = w[t + b * 2u + 1u];
    return Run(
        vec4<f32>(unpack4xI8(q.x)) * d, vec4<f32>(unpack4xI8(q.y)) * d, vec4<f32>(unpack4xI8(q.z)) * d,
        vec4<f32>(unpack4xI8(q.w)) * d, vec4<f32>(unpack4xI8(p.x)) * d, vec4<f32>(unpack4xI8(p.y)) * d,
        vec4<f32>(unpack4xI8(p.z)) * d, vec4<f32>(unpack4xI8(p.w)) * d);
}
