// An f16 from its 16 bits. Not `unpack2x16float`: that may flush subnormals to zero, and the scales of K-quants often
// are subnormal. Those are made from a normal number by subtracting its implicit leading one; no intermediate result is
// subnormal.
fn half(h: u32) -> f32 {
    let m = (h & 0x7fffu) << 13u;
    let below = bitcast<f32>(m + 0x38800000u) - 6.103515625e-5;
    let v = select(bitcast<f32>(m + 0x38000000u), below, m < 0x00800000u);
    return bitcast<f32>(bitcast<u32>(v) | ((h & 0x8000u) << 16u));
}
