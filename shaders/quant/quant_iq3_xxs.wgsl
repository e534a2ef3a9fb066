// 98 bytes: f16 scale, 8 bytes of point numbers per run, and per run a word as in IQ2_XXS.
fn levels(q: vec4<u32>) -> vec4<u32> { return q * 8u + 4u + select(vec4<u32>(0u), vec4<u32>(2u), q == vec4<u32>(7u)); }
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 98u;
    let n = run & 7u;
    let s = u32_at(b + 66u + n * 4u);
    let d = half_at(b) * (f32(s >> 28u) + 0.5) * 0.5;
    let p = points(unpack4xU8(u32_at(b + 2u + n * 8u)));
    let q = points(unpack4xU8(u32_at(b + 6u + n * 8u)));
    return run3(p, q, even(s), d);
}
