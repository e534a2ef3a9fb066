// 210 bytes: 128 bytes of low halves, 64 bytes of high two bits, 16 signed scales (one per 16 values), f16 scale.
fn six(l: u32, h: u32, ls: u32, hs: u32) -> vec4<f32> {
    let low = (u32_at(l) >> ls) & 0x0f0f0f0fu;
    let high = ((u32_at(h) >> hs) & 0x03030303u) << 4u;
    return vec4<f32>(unpack4xU8(low | high)) - 32.0;
}
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 210u;
    let n = run & 7u;
    let d = half_at(b + 208u);
    let d0 = d * i8_at(b + 192u + n * 2u);
    let d1 = d * i8_at(b + 193u + n * 2u);
    // Runs 0 and 2 of each four share their bytes, and so do 1 and 3.
    let l = b + (n >> 2u) * 64u + (n & 1u) * 32u;
    let h = b + 128u + (n >> 2u) * 32u;
    let ls = (n & 2u) * 2u;
    let hs = (n & 3u) * 2u;
    return Run(
        six(l, h, ls, hs) * d0, six(l + 4u, h + 4u, ls, hs) * d0,
        six(l + 8u, h + 8u, ls, hs) * d0, six(l + 12u, h + 12u, ls, hs) * d0,
        six(l + 16u, h + 16u, ls, hs) * d1, six(l + 20u, h + 20u, ls, hs) * d1,
        six(l + 24u, h + 24u, ls, hs) * d1, six(l + 28u, h + 28u, ls, hs) * d1);
}
