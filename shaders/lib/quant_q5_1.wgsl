// 24 bytes: f16 scale, f16 minimum, 32 fifth bits, 16 bytes as in Q4_0.
fn five(q: u32, bits: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8((q & 0x0f0f0f0fu) | spread5(bits))); }
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + run * 6u;
    let d = half(w[i] & 0xffffu);
    let m = vec4<f32>(half(w[i] >> 16u));
    let h = w[i + 1u];
    let q = vec4<u32>(w[i + 2u], w[i + 3u], w[i + 4u], w[i + 5u]);
    let p = q >> vec4<u32>(4u);
    return Run(
        five(q.x, h) * d + m, five(q.y, h >> 4u) * d + m, five(q.z, h >> 8u) * d + m, five(q.w, h >> 12u) * d + m,
        five(p.x, h >> 16u) * d + m, five(p.y, h >> 20u) * d + m, five(p.z, h >> 24u) * d + m, five(p.w, h >> 28u) * d + m);
}
