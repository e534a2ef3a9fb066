// 16 bytes whose low nibbles are values 0 to 15 and whose high nibbles are 16 to 31; f16 scale.
fn load_ints(row: u32, run: u32) -> Ints {
    let t = tile_at(row);
    let b = block_at(row, run);
    let d = half_at(t + BLOCKS * 16u, b);
    let q = w[t + b];
    return Ints(low4(q), high4(q), vec2<f32>(d), vec2<f32>(-8.0 * d));
}
