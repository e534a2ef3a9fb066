fn f16x4(i: u32) -> vec4<f32> { return vec4<f32>(unpack2x16float(w[i]), unpack2x16float(w[i + 1u])); }
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + run * 16u;
    return Run(f16x4(i), f16x4(i + 2u), f16x4(i + 4u), f16x4(i + 6u), f16x4(i + 8u), f16x4(i + 10u), f16x4(i + 12u), f16x4(i + 14u));
}
