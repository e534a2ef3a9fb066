// 176 bytes: as Q4_K, with 32 bytes of fifth bits (bit n for run n) before the halves.
fn five(q: u32, h: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8((q & 0x0f0f0f0fu) | ((h & 0x01010101u) << 4u)));
}
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + (run >> 3u) * 44u;
    let n = run & 7u;
    let sm = scale_min(i + 1u, n);
    let d = half(w[i] & 0xffffu) * sm.x;
    let m = vec4<f32>(-half(w[i] >> 16u) * sm.y);
    let h = i + 4u;
    let j = i + 12u + (n >> 1u) * 8u;
    let s = (n & 1u) * 4u;
    return Run(
        five(w[j] >> s, w[h] >> n) * d + m, five(w[j + 1u] >> s, w[h + 1u] >> n) * d + m,
        five(w[j + 2u] >> s, w[h + 2u] >> n) * d + m, five(w[j + 3u] >> s, w[h + 3u] >> n) * d + m,
        five(w[j + 4u] >> s, w[h + 4u] >> n) * d + m, five(w[j + 5u] >> s, w[h + 5u] >> n) * d + m,
        five(w[j + 6u] >> s, w[h + 6u] >> n) * d + m, five(w[j + 7u] >> s, w[h + 7u] >> n) * d + m);
}
