// 16 bytes of 4-bit scale and minimum (one per 16 values), 64 bytes of 2-bit values; f16 scale and f16 minimum.
fn two(q: u32, shift: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8((q >> shift) & 0x03030303u)); }
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run >> 3u);
    let i = t + b * 5u;
    let n = run & 7u;
    let sm = (word_of(w[i], n >> 1u) >> ((n & 1u) * 16u)) & 0xffffu;
    let dm = word_at(t + BLOCKS * 80u, b);
    let d = half(dm & 0xffffu);
    let dmin = half(dm >> 16u);
    let d0 = d * f32(sm & 15u);
    let d1 = d * f32((sm >> 8u) & 15u);
    let m0 = vec4<f32>(-dmin * f32((sm >> 4u) & 15u));
    let m1 = vec4<f32>(-dmin * f32(sm >> 12u));
    let q = w[i + 1u + (n >> 2u) * 2u];
    let p = w[i + 2u + (n >> 2u) * 2u];
    let s = (n & 3u) * 2u;
    return Run(
        two(q.x, s) * d0 + m0, two(q.y, s) * d0 + m0, two(q.z, s) * d0 + m0, two(q.w, s) * d0 + m0,
        two(p.x, s) * d1 + m1, two(p.y, s) * d1 + m1, two(p.z, s) * d1 + m1, two(p.w, s) * d1 + m1);
}
