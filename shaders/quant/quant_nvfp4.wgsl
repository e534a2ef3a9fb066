// 36 bytes of two runs: four scales as floats of four exponent and three mantissa bits, and for each 8 bytes of
// nibbles: the low nibbles are its first 8 values.
fn scale8(s: u32) -> f32 {
    let x = s & 0x7fu;
    let normal = bitcast<f32>((x << 20u) + 0x3c000000u);
    // The largest code is NaN, and is treated as zero.
    return select(select(normal, f32(x) / 512.0, x < 8u), 0.0, x == 0x7fu);
}
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + (run >> 1u) * 9u;
    let n = run & 1u;
    let s = w[i] >> (n * 16u);
    let d = scale8(s);
    let e = scale8(s >> 8u);
    let j = i + 1u + n * 4u;
    let q = vec4<u32>(w[j], w[j + 1u], w[j + 2u], w[j + 3u]);
    let p = q >> vec4<u32>(4u);
    return Run(
        fp4(q.x) * d, fp4(q.y) * d, fp4(p.x) * d, fp4(p.y) * d,
        fp4(q.z) * e, fp4(q.w) * e, fp4(p.z) * e, fp4(p.w) * e);
}
