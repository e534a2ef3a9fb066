// 16 bytes of which the low halves are values 0 to 15 and the high halves 16 to 31; f16 scale.
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run);
    let d = half_at(t + BLOCKS * 16u, b);
    let m = vec4<f32>(-8.0 * d);
    let q = w[t + b];
    return Run(
        low4(q.x) * d + m, low4(q.y) * d + m, low4(q.z) * d + m, low4(q.w) * d + m,
        high4(q.x) * d + m, high4(q.y) * d + m, high4(q.z) * d + m, high4(q.w) * d + m);
}
