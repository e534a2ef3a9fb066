// 32 bytes of third bits, 64 bytes of low two bits; 12 bytes of 6-bit scales (one per 16 values); f16 scale.
fn scale3(s: vec3<u32>, i: u32) -> f32 {
    let low = (select(s.x, s.y, (i & 4u) != 0u) >> ((i & 3u) * 8u + (i >> 3u) * 4u)) & 15u;
    let high = (s.z >> ((i & 3u) * 8u + (i >> 2u) * 2u)) & 3u;
    return f32(low | (high << 4u)) - 32.0;
}
// The third bit, where it is 0, takes 4 off.
fn three(q: u32, h: u32, n: u32) -> vec4<f32> {
    let low = (q >> ((n & 3u) * 2u)) & 0x03030303u;
    let high = ((h >> n) & 0x01010101u) << 2u;
    return vec4<f32>(unpack4xU8(low | high)) - 4.0;
}
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run >> 3u);
    let i = t + b * 6u;
    let n = run & 7u;
    let at = t + BLOCKS * 96u;
    let s = vec3<u32>(word_at(at, b * 3u), word_at(at, b * 3u + 1u), word_at(at, b * 3u + 2u));
    let d = half_at(t + BLOCKS * 108u, b);
    let d0 = d * scale3(s, n * 2u);
    let d1 = d * scale3(s, n * 2u + 1u);
    let h = w[i];
    let g = w[i + 1u];
    let q = w[i + 2u + (n >> 2u) * 2u];
    let p = w[i + 3u + (n >> 2u) * 2u];
    return Run(
        three(q.x, h.x, n) * d0, three(q.y, h.y, n) * d0, three(q.z, h.z, n) * d0, three(q.w, h.w, n) * d0,
        three(p.x, g.x, n) * d1, three(p.y, g.y, n) * d1, three(p.z, g.z, n) * d1, three(p.w, g.w, n) * d1);
}
