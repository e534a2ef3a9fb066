// 136 bytes: f16 scale, 8 high two bits of scales, 8 low halves of scales, 8 runs of 16 bytes as in IQ4_NL.
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + (run >> 3u) * 34u;
    let n = run & 7u;
    let low = (w[i + 1u] >> (n * 4u)) & 15u;
    let high = (w[i] >> (16u + n * 2u)) & 3u;
    let d = half(w[i] & 0xffffu) * (f32(low | (high << 4u)) - 32.0);
    let j = i + 2u + n * 4u;
    let q = vec4<u32>(w[j], w[j + 1u], w[j + 2u], w[j + 3u]);
    let p = q >> vec4<u32>(4u);
    return Run(
        code4(q.x) * d, code4(q.y) * d, code4(q.z) * d, code4(q.w) * d,
        code4(p.x) * d, code4(p.y) * d, code4(p.z) * d, code4(p.w) * d);
}
