// 82 bytes: f16 scale, 4 bytes of point numbers per run, 4 bytes of signs per run, a byte per run of two high bits of
// each point number, a byte per run of two 4-bit scales (one per 16 values).
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 82u;
    let n = run & 7u;
    let h = (vec4<u32>(u8_at(b + 66u + n)) << vec4<u32>(8u, 6u, 4u, 2u)) & vec4<u32>(0x300u);
    let p = points(unpack4xU8(u32_at(b + 2u + n * 4u)) | h);
    let s = u8_at(b + 74u + n);
    let d = half_at(b) * (vec2<f32>(vec2<u32>(s & 15u, s >> 4u)) + 0.5) * 0.25;
    return run2(p, unpack4xU8(u32_at(b + 34u + n * 4u)), d);
}
