// Runs of bf16.
fn bf16x4(p: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(p.x << 16u, p.x & 0xffff0000u, p.y << 16u, p.y & 0xffff0000u));
}
fn load_run(row: u32, run: u32) -> Run {
    let i = row + run * 4u;
    let p = w[i];
    let q = w[i + 1u];
    let r = w[i + 2u];
    let s = w[i + 3u];
    return Run(
        bf16x4(p.xy), bf16x4(p.zw), bf16x4(q.xy), bf16x4(q.zw), bf16x4(r.xy), bf16x4(r.zw), bf16x4(s.xy), bf16x4(s.zw));
}
