// 56 bytes: 4 bytes of point numbers per run, 16 bits per run of four times three high bits of a point number and one
// that shifts its values down, four times 12 bits of 3-bit scales (one per 16 values) and four of the f16 scale.
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + (run >> 3u) * 14u;
    let n = run & 7u;
    let h = vec4<u32>(w[i + 8u + (n >> 1u)] >> ((n & 1u) * 16u)) >> vec4<u32>(0u, 4u, 8u, 12u);
    let p = points(unpack4xU8(w[i + n]) | ((h & vec4<u32>(7u)) << vec4<u32>(8u)));
    let a = w[i + 12u];
    let c = w[i + 13u];
    let d = half(((a >> 12u) & 0xfu) | ((a >> 24u) & 0xf0u) | ((c >> 4u) & 0xf00u) | ((c >> 16u) & 0xf000u));
    let s = select(a, c, n > 3u) >> (((n >> 1u) & 1u) * 16u + (n & 1u) * 6u);
    return run1(p, h & vec4<u32>(8u), d * vec2<f32>(vec2<u32>(s & 7u, (s >> 3u) & 7u) * 2u + 1u));
}
