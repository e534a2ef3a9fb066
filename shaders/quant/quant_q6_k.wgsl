// 128 bytes of low nibbles, 64 bytes of high two bits, 16 signed scales (one per 16 values); f16 scale.
fn six(l: vec4<u32>, h: vec4<u32>) -> vec4<u32> {
    return (l & vec4<u32>(0x0f0f0f0fu)) | ((h & vec4<u32>(0x03030303u)) << vec4<u32>(4u));
}
fn load_ints(row: u32, run: u32) -> Ints {
    let t = tile_at(row);
    let b = block_at(row, run >> 3u);
    let i = t + b * 13u;
    let n = run & 7u;
    let scales = w[i + 12u][n >> 1u] >> ((n & 1u) * 16u);
    let s = vec2<f32>((bitcast<vec2<i32>>(vec2<u32>(scales << 24u, scales << 16u))) >> vec2<u32>(24u));
    let d = half_at(t + BLOCKS * 208u, b) * s;
    // Runs 0 and 2 of each four share their bytes, and so do 1 and 3.
    let l = i + (n >> 2u) * 4u + (n & 1u) * 2u;
    let h = i + 8u + (n >> 2u) * 2u;
    let ls = vec4<u32>((n & 2u) * 2u);
    let hs = vec4<u32>((n & 3u) * 2u);
    return Ints(six(w[l] >> ls, w[h] >> hs), six(w[l + 1u] >> ls, w[h + 1u] >> hs), d, -32.0 * d);
}
