// 32 bytes of third bits, 64 bytes of low two bits; 12 bytes of 6-bit scales (one per 16 values); f16 scale.
fn scale3(s: vec3<u32>, i: u32) -> f32 {
    let low = (select(s.x, s.y, (i & 4u) != 0u) >> ((i & 3u) * 8u + (i >> 3u) * 4u)) & 15u;
    let high = (s.z >> ((i & 3u) * 8u + (i >> 2u) * 2u)) & 3u;
    return f32(low | (high << 4u)) - 32.0;
}
// A third bit of 0 subtracts 4.
fn three(q: vec4<u32>, h: vec4<u32>, n: u32) -> vec4<u32> {
    let low = (q >> vec4<u32>((n & 3u) * 2u)) & vec4<u32>(0x03030303u);
    return low | (((h >> vec4<u32>(n)) & vec4<u32>(0x01010101u)) << vec4<u32>(2u));
}
fn load_ints(row: u32, run: u32) -> Ints {
    let t = tile_at(row);
    let b = block_at(row, run >> 3u);
    let i = t + b * 6u;
    let n = run & 7u;
    let at = t + BLOCKS * 96u;
    let s = vec3<u32>(word_at(at, b * 3u), word_at(at, b * 3u + 1u), word_at(at, b * 3u + 2u));
    let d = half_at(t + BLOCKS * 108u, b) * vec2<f32>(scale3(s, n * 2u), scale3(s, n * 2u + 1u));
    let q = i + 2u + (n >> 2u) * 2u;
    return Ints(three(w[q], w[i], n), three(w[q + 1u], w[i + 1u], n), d, -4.0 * d);
}
