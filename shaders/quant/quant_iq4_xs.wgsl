// 8 runs of 16 bytes as in IQ4_NL; f16 scale, the high two bits of 8 scales, the low nibbles of 8 scales.
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run >> 3u);
    let n = run & 7u;
    let head = word_at(t + BLOCKS * 128u, b * 2u);
    let low = (word_at(t + BLOCKS * 128u, b * 2u + 1u) >> (n * 4u)) & 15u;
    let high = (head >> (16u + n * 2u)) & 3u;
    let d = half(head & 0xffffu) * (f32(low | (high << 4u)) - 32.0);
    let q = w[t + b * 8u + n];
    let p = q >> vec4<u32>(4u);
    return Run(
        code4(q.x) * d, code4(q.y) * d, code4(q.z) * d, code4(q.w) * d,
        code4(p.x) * d, code4(p.y) * d, code4(p.z) * d, code4(p.w) * d);
}
