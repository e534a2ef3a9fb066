// 144 bytes: f16 scale, f16 minimum, 12 bytes of scales, 4 times 32 bytes of two runs (low nibbles, high nibbles).
fn load_ints(row: u32, run: u32) -> Ints {
    let i = row + (run >> 3u) * 9u;
    let n = run & 7u;
    let head = w[i];
    let sm = scale_min(head.yzw, n);
    let d = half(head.x & 0xffffu) * sm.x;
    let m = -half(head.x >> 16u) * sm.y;
    let s = vec4<u32>((n & 1u) * 4u);
    let q = w[i + 1u + (n >> 1u) * 2u] >> s;
    let p = w[i + 2u + (n >> 1u) * 2u] >> s;
    return Ints(low4(q), low4(p), vec2<f32>(d), vec2<f32>(m));
}
