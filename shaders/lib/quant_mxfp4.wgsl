// 17 bytes: the scale as a power of two, then nibbles as in Q4_0 that are floats.
fn load_run(row: u32, run: u32) -> Run {
    let b = row + run * 17u;
    let e = u8_at(b);
    let d = bitcast<f32>(select(e << 23u, 0x00400000u, e == 0u));
    let q = vec4<u32>(odd_u32_at(b + 1u), odd_u32_at(b + 5u), odd_u32_at(b + 9u), odd_u32_at(b + 13u));
    let p = q >> vec4<u32>(4u);
    return Run(
        fp4(q.x) * d, fp4(q.y) * d, fp4(q.z) * d, fp4(q.w) * d,
        fp4(p.x) * d, fp4(p.y) * d, fp4(p.z) * d, fp4(p.w) * d);
}
// At any byte. Reads one word too far where that is a multiple of four: weights have slack at their end.
fn odd_u32_at(b: u32) -> u32 {
    let i = b >> 2u;
    let s = (b & 3u) * 8u;
    return select((w[i] >> s) | (w[i + 1u] << ((32u - s) & 31u)), w[i], s == 0u);
}
