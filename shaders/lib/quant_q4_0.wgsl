// 18 bytes: f16 scale, 16 bytes of which the low halves are values 0 to 15 and the high halves 16 to 31.
fn load_run(row: u32, run: u32) -> Run {
    let b = row + run * 18u;
    let d = half_at(b);
    let m = vec4<f32>(-8.0 * d);
    let q = vec4<u32>(u32_at(b + 2u), u32_at(b + 6u), u32_at(b + 10u), u32_at(b + 14u));
    return Run(
        low4(q.x) * d + m, low4(q.y) * d + m, low4(q.z) * d + m, low4(q.w) * d + m,
        high4(q.x) * d + m, high4(q.y) * d + m, high4(q.z) * d + m, high4(q.w) * d + m);
}
