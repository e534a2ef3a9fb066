// 176 bytes: as Q4_K, with 32 bytes of fifth bits (bit n for run n) before the halves.
fn five(q: u32, h: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8((q & 0x0f0f0f0fu) | ((h & 0x01010101u) << 4u)));
}
fn load_run(row: u32, run: u32) -> Run {
    let i = row + (run >> 3u) * 11u;
    let n = run & 7u;
    let head = w[i];
    let sm = scale_min(head.yzw, n);
    let d = half(head.x & 0xffffu) * sm.x;
    let m = vec4<f32>(-half(head.x >> 16u) * sm.y);
    let h = w[i + 1u] >> vec4<u32>(n);
    let g = w[i + 2u] >> vec4<u32>(n);
    let s = vec4<u32>((n & 1u) * 4u);
    let q = w[i + 3u + (n >> 1u) * 2u] >> s;
    let p = w[i + 4u + (n >> 1u) * 2u] >> s;
    return Run(
        five(q.x, h.x) * d + m, five(q.y, h.y) * d + m, five(q.z, h.z) * d + m, five(q.w, h.w) * d + m,
        five(p.x, g.x) * d + m, five(p.y, g.y) * d + m, five(p.z, g.z) * d + m, five(p.w, g.w) * d + m);
}
