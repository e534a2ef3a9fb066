// 110 bytes: f16 scale, 8 bytes of point numbers per run, a byte of their ninth bits, 4 bytes of signs per run, a 4-bit
// scale per run.
fn levels(q: vec4<u32>) -> vec4<u32> { return q * 2u + 1u; }
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 110u;
    let n = run & 7u;
    let h = u8_at(b + 66u + n);
    let low = (vec4<u32>(h) << vec4<u32>(8u, 7u, 6u, 5u)) & vec4<u32>(0x100u);
    let high = (vec4<u32>(h) << vec4<u32>(4u, 3u, 2u, 1u)) & vec4<u32>(0x100u);
    let p = points(unpack4xU8(u32_at(b + 2u + n * 8u)) | low);
    let q = points(unpack4xU8(u32_at(b + 6u + n * 8u)) | high);
    let s = (u8_at(b + 106u + (n >> 1u)) >> ((n & 1u) * 4u)) & 15u;
    return run3(p, q, unpack4xU8(u32_at(b + 74u + n * 4u)), half_at(b) * f32(s * 2u + 1u));
}
