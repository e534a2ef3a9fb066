// As Q4_0, with a codebook.
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run);
    let d = half_at(t + BLOCKS * 16u, b);
    let q = w[t + b];
    let p = q >> vec4<u32>(4u);
    return Run(
        code4(q.x) * d, code4(q.y) * d, code4(q.z) * d, code4(q.w) * d,
        code4(p.x) * d, code4(p.y) * d, code4(p.z) * d, code4(p.w) * d);
}
