// 16 bytes as in Q4_0; 32 fifth bits; f16 scale.
fn load_ints(row: u32, run: u32) -> Ints {
    let t = tile_at(row);
    let b = block_at(row, run);
    let d = half_at(t + BLOCKS * 20u, b);
    let h = word_at(t + BLOCKS * 16u, b);
    let q = w[t + b];
    return Ints(low4(q) | fifth(h), high4(q) | fifth(h >> 16u), vec2<f32>(d), vec2<f32>(-16.0 * d));
}
