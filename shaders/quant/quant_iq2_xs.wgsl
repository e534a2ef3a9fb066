// 74 bytes: f16 scale, per eight values 9 bits of point number and 7 of sign code, a byte per run of two 4-bit scales
// (one per 16 values).
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 74u;
    let n = run & 7u;
    let q = vec2<u32>(u32_at(b + 2u + n * 8u), u32_at(b + 6u + n * 8u));
    let r = q >> vec2<u32>(16u);
    let codes = ((q.x >> 9u) & 0x7fu) | ((q.x >> 18u) & 0x3f80u) | ((q.y << 5u) & 0x1fc000u) | ((q.y >> 4u) & 0xfe00000u);
    let s = u8_at(b + 66u + n);
    let d = half_at(b) * (vec2<f32>(vec2<u32>(s & 15u, s >> 4u)) + 0.5) * 0.25;
    return run2(points(vec4<u32>(q.x, r.x, q.y, r.y) & vec4<u32>(511u)), even(codes), d);
}
