// 18 bytes as in Q4_0, with a codebook.
fn load_run(row: u32, run: u32) -> Run {
    let b = row + run * 18u;
    let d = half_at(b);
    let q = vec4<u32>(u32_at(b + 2u), u32_at(b + 6u), u32_at(b + 10u), u32_at(b + 14u));
    let p = q >> vec4<u32>(4u);
    return Run(
        code4(q.x) * d, code4(q.y) * d, code4(q.z) * d, code4(q.w) * d,
        code4(p.x) * d, code4(p.y) * d, code4(p.z) * d, code4(p.w) * d);
}
