// 18 bytes of four runs: f16 scale, a bit per value: the scale if it is set, else minus the scale.
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 2u) * 18u;
    let d = half_at(b);
    let q = u32_at(b + 2u + (run & 3u) * 4u);
    return Run(
        flips(q, d), flips(q >> 4u, d), flips(q >> 8u, d), flips(q >> 12u, d),
        flips(q >> 16u, d), flips(q >> 20u, d), flips(q >> 24u, d), flips(q >> 28u, d));
}
fn flips(q: u32, d: f32) -> vec4<f32> {
    return select(vec4<f32>(-d), vec4<f32>(d), (vec4<u32>(q) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>(0u));
}
