// 66 bytes: 64 bytes of 2-bit values (bit pair n of each half of them is run n of its half), f16 scale.
fn pairs(b: u32, shift: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8((u32_at(b) >> shift) & 0x03030303u)) - 1.0; }
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 66u;
    let d = half_at(b + 64u);
    let q = b + ((run >> 2u) & 1u) * 32u;
    let s = (run & 3u) * 2u;
    return Run(
        pairs(q, s) * d, pairs(q + 4u, s) * d, pairs(q + 8u, s) * d, pairs(q + 12u, s) * d,
        pairs(q + 16u, s) * d, pairs(q + 20u, s) * d, pairs(q + 24u, s) * d, pairs(q + 28u, s) * d);
}
