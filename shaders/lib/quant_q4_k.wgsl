// 144 bytes: f16 scale, f16 minimum, 12 bytes of scales, 4 times 32 bytes of two runs (low halves, high halves).
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + (run >> 3u) * 36u;
    let n = run & 7u;
    let sm = scale_min(i + 1u, n);
    let d = half(w[i] & 0xffffu) * sm.x;
    let m = vec4<f32>(-half(w[i] >> 16u) * sm.y);
    let j = i + 4u + (n >> 1u) * 8u;
    let s = (n & 1u) * 4u;
    return Run(
        low4(w[j] >> s) * d + m, low4(w[j + 1u] >> s) * d + m, low4(w[j + 2u] >> s) * d + m, low4(w[j + 3u] >> s) * d + m,
        low4(w[j + 4u] >> s) * d + m, low4(w[j + 5u] >> s) * d + m, low4(w[j + 6u] >> s) * d + m, low4(w[j + 7u] >> s) * d + m);
}
