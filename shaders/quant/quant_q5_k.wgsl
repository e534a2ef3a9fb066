// 176 bytes: as Q4_K, with 32 bytes of fifth bits (bit n for run n) before the nibbles.
fn five(q: vec4<u32>, h: vec4<u32>) -> vec4<u32> { return low4(q) | ((h & vec4<u32>(0x01010101u)) << vec4<u32>(4u)); }
fn load_ints(row: u32, run: u32) -> Ints {
    let i = row + (run >> 3u) * 11u;
    let n = run & 7u;
    let head = w[i];
    let sm = scale_min(head.yzw, n);
    let d = half(head.x & 0xffffu) * sm.x;
    let m = -half(head.x >> 16u) * sm.y;
    let h = w[i + 1u] >> vec4<u32>(n);
    let g = w[i + 2u] >> vec4<u32>(n);
    let s = vec4<u32>((n & 1u) * 4u);
    let q = w[i + 3u + (n >> 1u) * 2u] >> s;
    let p = w[i + 4u + (n >> 1u) * 2u] >> s;
    return Ints(five(q, h), five(p, g), vec2<f32>(d), vec2<f32>(m));
}
