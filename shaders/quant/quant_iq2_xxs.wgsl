// 66 bytes: f16 scale, and per run 4 bytes of point numbers and a word of four sign codes with a 4-bit scale in its
// high bits.
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 66u;
    let n = run & 7u;
    let s = u32_at(b + 6u + n * 8u);
    let d = half_at(b) * (f32(s >> 28u) + 0.5) * 0.25;
    return run2(points(unpack4xU8(u32_at(b + 2u + n * 8u))), even(s), vec2<f32>(d));
}
