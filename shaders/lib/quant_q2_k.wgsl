// 84 bytes: 16 bytes of 4-bit scale and minimum (one per 16 values), 64 bytes of 2-bit values, f16 scale, f16 minimum.
fn two(q: u32, shift: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8((q >> shift) & 0x03030303u)); }
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + (run >> 3u) * 21u;
    let n = run & 7u;
    let sm = (w[i + (n >> 1u)] >> ((n & 1u) * 16u)) & 0xffffu;
    let d = half(w[i + 20u] & 0xffffu);
    let dmin = half(w[i + 20u] >> 16u);
    let d0 = d * f32(sm & 15u);
    let d1 = d * f32((sm >> 8u) & 15u);
    let m0 = vec4<f32>(-dmin * f32((sm >> 4u) & 15u));
    let m1 = vec4<f32>(-dmin * f32(sm >> 12u));
    let j = i + 4u + (n >> 2u) * 8u;
    let s = (n & 3u) * 2u;
    return Run(
        two(w[j], s) * d0 + m0, two(w[j + 1u], s) * d0 + m0, two(w[j + 2u], s) * d0 + m0, two(w[j + 3u], s) * d0 + m0,
        two(w[j + 4u], s) * d1 + m1, two(w[j + 5u], s) * d1 + m1, two(w[j + 6u], s) * d1 + m1, two(w[j + 7u], s) * d1 + m1);
}
