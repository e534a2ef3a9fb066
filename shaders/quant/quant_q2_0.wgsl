// 18 bytes of two runs: f16 scale, 2 bits per value, lowest first: the value plus one.
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 1u) * 18u;
    let d = half_at(b);
    let q = b + 2u + (run & 1u) * 8u;
    let low = u32_at(q);
    let high = u32_at(q + 4u);
    return Run(
        levels(low, d), levels(low >> 8u, d), levels(low >> 16u, d), levels(low >> 24u, d),
        levels(high, d), levels(high >> 8u, d), levels(high >> 16u, d), levels(high >> 24u, d));
}
fn levels(q: u32, d: f32) -> vec4<f32> {
    return (vec4<f32>((vec4<u32>(q) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u)) - 1.0) * d;
}
