// 16 bytes as in Q4_0; f16 scale and f16 minimum.
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run);
    let dm = word_at(t + BLOCKS * 16u, b);
    let d = half(dm & 0xffffu);
    let m = vec4<f32>(half(dm >> 16u));
    let q = w[t + b];
    return Run(
        low4(q.x) * d + m, low4(q.y) * d + m, low4(q.z) * d + m, low4(q.w) * d + m,
        high4(q.x) * d + m, high4(q.y) * d + m, high4(q.z) * d + m, high4(q.w) * d + m);
}
