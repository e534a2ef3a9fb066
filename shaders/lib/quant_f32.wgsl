fn f32x4(i: u32) -> vec4<f32> { return bitcast<vec4<f32>>(vec4<u32>(w[i], w[i + 1u], w[i + 2u], w[i + 3u])); }
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + run * 32u;
    return Run(f32x4(i), f32x4(i + 4u), f32x4(i + 8u), f32x4(i + 12u), f32x4(i + 16u), f32x4(i + 20u), f32x4(i + 24u), f32x4(i + 28u));
}
