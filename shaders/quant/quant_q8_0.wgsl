// 32 signed bytes; f16 scale.
fn load_ints(row: u32, run: u32) -> Ints {
    let t = tile_at(row);
    let b = block_at(row, run);
    let d = half_at(t + BLOCKS * 32u, b);
    return Ints(w[t + b * 2u], w[t + b * 2u + 1u], vec2<f32>(d), vec2<f32>(0.0));
}
