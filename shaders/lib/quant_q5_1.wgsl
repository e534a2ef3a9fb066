// 16 bytes as in Q4_0; f16 scale, f16 minimum and 32 fifth bits.
fn five(q: u32, bits: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8((q & 0x0f0f0f0fu) | spread5(bits))); }
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run);
    let dm = word_at(t + BLOCKS * 16u, b * 2u);
    let d = half(dm & 0xffffu);
    let m = vec4<f32>(half(dm >> 16u));
    let h = word_at(t + BLOCKS * 16u, b * 2u + 1u);
    let q = w[t + b];
    let p = q >> vec4<u32>(4u);
    return Run(
        five(q.x, h) * d + m, five(q.y, h >> 4u) * d + m, five(q.z, h >> 8u) * d + m, five(q.w, h >> 12u) * d + m,
        five(p.x, h >> 16u) * d + m, five(p.y, h >> 20u) * d + m, five(p.z, h >> 24u) * d + m, five(p.w, h >> 28u) * d + m);
}
