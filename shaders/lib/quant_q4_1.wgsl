// 20 bytes: f16 scale, f16 minimum, 16 bytes as in Q4_0.
fn load_run(row: u32, run: u32) -> Run {
    let i = (row >> 2u) + run * 5u;
    let d = half(w[i] & 0xffffu);
    let m = vec4<f32>(half(w[i] >> 16u));
    let q = vec4<u32>(w[i + 1u], w[i + 2u], w[i + 3u], w[i + 4u]);
    return Run(
        low4(q.x) * d + m, low4(q.y) * d + m, low4(q.z) * d + m, low4(q.w) * d + m,
        high4(q.x) * d + m, high4(q.y) * d + m, high4(q.z) * d + m, high4(q.w) * d + m);
}
