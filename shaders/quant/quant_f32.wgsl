// Runs of f32.
fn load_run(row: u32, run: u32) -> Run {
    let i = row + run * 8u;
    return Run(
        bitcast<vec4<f32>>(w[i]), bitcast<vec4<f32>>(w[i + 1u]), bitcast<vec4<f32>>(w[i + 2u]),
        bitcast<vec4<f32>>(w[i + 3u]), bitcast<vec4<f32>>(w[i + 4u]), bitcast<vec4<f32>>(w[i + 5u]),
        bitcast<vec4<f32>>(w[i + 6u]), bitcast<vec4<f32>>(w[i + 7u]));
}
