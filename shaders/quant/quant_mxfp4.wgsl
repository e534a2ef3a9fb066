// Nibbles as in Q4_0 that are 4-bit floats; the scale is a power of two, in a byte.
fn load_run(row: u32, run: u32) -> Run {
    let t = tile_at(row);
    let b = block_at(row, run);
    let e = u8_at(t + BLOCKS * 16u, b);
    let d = bitcast<f32>(select(e << 23u, 0x00400000u, e == 0u));
    let q = w[t + b];
    let p = q >> vec4<u32>(4u);
    return Run(
        fp4(q.x) * d, fp4(q.y) * d, fp4(q.z) * d, fp4(q.w) * d,
        fp4(p.x) * d, fp4(p.y) * d, fp4(p.z) * d, fp4(p.w) * d);
}
