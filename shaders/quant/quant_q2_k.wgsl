// 16 bytes of 4-bit scale and minimum (one per 16 values), 64 bytes of 2-bit values; f16 scale and f16 minimum.
fn two(q: vec4<u32>, n: u32) -> vec4<u32> { return (q >> vec4<u32>((n & 3u) * 2u)) & vec4<u32>(0x03030303u); }
fn load_ints(row: u32, run: u32) -> Ints {
    let t = tile_at(row);
    let b = block_at(row, run >> 3u);
    let i = t + b * 5u;
    let n = run & 7u;
    let sm = vec2<u32>(w[i][n >> 1u] >> ((n & 1u) * 16u)) >> vec2<u32>(0u, 8u);
    let dm = word_at(t + BLOCKS * 80u, b);
    let d = half(dm & 0xffffu) * vec2<f32>(sm & vec2<u32>(15u));
    let m = -half(dm >> 16u) * vec2<f32>((sm >> vec2<u32>(4u)) & vec2<u32>(15u));
    let q = i + 1u + (n >> 2u) * 2u;
    return Ints(two(w[q], n), two(w[q + 1u], n), d, m);
}
