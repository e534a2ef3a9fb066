// 50 bytes: f16 scale, 4 bytes of point numbers per run, 16 bits per run: three high bits of each point number, three
// of scale, one that shifts the run down.
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 50u;
    let n = run & 7u;
    let h = u16_at(b + 34u + n * 2u);
    let high = ((vec4<u32>(h) >> vec4<u32>(0u, 3u, 6u, 9u)) & vec4<u32>(7u)) << vec4<u32>(8u);
    let d = half_at(b) * f32(((h >> 12u) & 7u) * 2u + 1u);
    return run1(points(unpack4xU8(u32_at(b + 2u + n * 4u)) | high), vec4<u32>(h & 0x8000u), vec2<f32>(d));
}
