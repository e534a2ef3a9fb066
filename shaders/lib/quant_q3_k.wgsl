// 110 bytes: 32 bytes of third bits, 64 bytes of low two bits, 12 bytes of 6-bit scales (one per 16 values), f16 scale.
fn scale3(b: u32, i: u32) -> f32 {
    let low = (u8_at(b + (i & 7u)) >> ((i >> 3u) * 4u)) & 15u;
    let high = (u8_at(b + 8u + (i & 3u)) >> ((i >> 2u) * 2u)) & 3u;
    return f32(low | (high << 4u)) - 32.0;
}
// The third bit, where it is 0, takes 4 off.
fn three(b: u32, q: u32, n: u32, k: u32) -> vec4<f32> {
    let low = (u32_at(q + k * 4u) >> ((n & 3u) * 2u)) & 0x03030303u;
    let high = ((u32_at(b + k * 4u) >> n) & 0x01010101u) << 2u;
    return vec4<f32>(unpack4xU8(low | high)) - 4.0;
}
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 110u;
    let n = run & 7u;
    let d = half_at(b + 108u);
    let d0 = d * scale3(b + 96u, n * 2u);
    let d1 = d * scale3(b + 96u, n * 2u + 1u);
    let q = b + 32u + (n >> 2u) * 32u;
    return Run(
        three(b, q, n, 0u) * d0, three(b, q, n, 1u) * d0, three(b, q, n, 2u) * d0, three(b, q, n, 3u) * d0,
        three(b, q, n, 4u) * d1, three(b, q, n, 5u) * d1, three(b, q, n, 6u) * d1, three(b, q, n, 7u) * d1);
}
