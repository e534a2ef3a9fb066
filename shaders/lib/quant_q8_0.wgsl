// 34 bytes: f16 scale, 32 signed bytes.
fn bytes4(b: u32) -> vec4<f32> { return vec4<f32>(unpack4xI8(u32_at(b))); }
fn load_run(row: u32, run: u32) -> Run {
    let b = row + run * 34u;
    let d = half_at(b);
    return Run(
        bytes4(b + 2u) * d, bytes4(b + 6u) * d, bytes4(b + 10u) * d, bytes4(b + 14u) * d,
        bytes4(b + 18u) * d, bytes4(b + 22u) * d, bytes4(b + 26u) * d, bytes4(b + 30u) * d);
}
