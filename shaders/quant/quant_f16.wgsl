// Runs of f16.
fn f16x4(p: vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(p.x), unpack2x16float(p.y)); }
fn load_run(row: u32, run: u32) -> Run {
    let i = row + run * 4u;
    let p = w[i];
    let q = w[i + 1u];
    let r = w[i + 2u];
    let s = w[i + 3u];
    return Run(
        f16x4(p.xy), f16x4(p.zw), f16x4(q.xy), f16x4(q.zw), f16x4(r.xy), f16x4(r.zw), f16x4(s.xy), f16x4(s.zw));
}
