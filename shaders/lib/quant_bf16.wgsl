fn bf16x4(i: u32) -> vec4<f32> {
    let p = w[i];
    let q = w[i + 1u];
    return bitcast<vec4<f32>>(vec4<u32>(p << 16u, p & 0xffff0000u, q << 16u, q & 0xffff0000u));
}
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + run * 16u;
    return Run(bf16x4(i), bf16x4(i + 2u), bf16x4(i + 4u), bf16x4(i + 6u), bf16x4(i + 8u), bf16x4(i + 10u), bf16x4(i + 12u), bf16x4(i + 14u));
}
