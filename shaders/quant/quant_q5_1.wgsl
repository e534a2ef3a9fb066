// 16 bytes as in Q4_0; f16 scale, f16 minimum and 32 fifth bits.
fn load_ints(row: u32, run: u32) -> Ints {
    let t = tile_at(row);
    let b = block_at(row, run);
    let dm = word_at(t + BLOCKS * 16u, b * 2u);
    let h = word_at(t + BLOCKS * 16u, b * 2u + 1u);
    let q = w[t + b];
    let d = vec2<f32>(half(dm & 0xffffu));
    return Ints(low4(q) | fifth(h), high4(q) | fifth(h >> 16u), d, vec2<f32>(half(dm >> 16u)));
}
