// An f16 from its 16 bits. Not `unpack2x16float`: that may flush subnormals to zero, and the scales of K-quants often
// are subnormal.
fn half(h: u32) -> f32 {
    let normal = bitcast<f32>(((h & 0x7fffu) << 13u) + 0x38000000u);
    let magnitude = select(normal, f32(h & 0x3ffu) * 5.9604644775390625e-8, (h & 0x7c00u) == 0u);
    return select(magnitude, -magnitude, (h & 0x8000u) != 0u);
}
