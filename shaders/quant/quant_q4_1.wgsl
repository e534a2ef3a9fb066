// 16 bytes as in Q4_0; f16 scale and f16 minimum.
fn load_ints(row: u32, run: u32) -> Ints {
    let t = tile_at(row);
    let b = block_at(row, run);
    let dm = word_at(t + BLOCKS * 16u, b);
    let q = w[t + b];
    return Ints(low4(q), high4(q), vec2<f32>(half(dm & 0xffffu)), vec2<f32>(half(dm >> 16u)));
}
