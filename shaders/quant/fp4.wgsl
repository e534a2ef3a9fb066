// Floats of a sign, two bits of exponent and one of mantissa, from the low nibble of each byte.
fn fp4(q: u32) -> vec4<f32> {
    let n = vec4<f32>(unpack4xU8(q & 0x07070707u));
    // 0 0.5 1 1.5 2 3 4 6: linear up to 2, then in steps of one, with a last step of two.
    let size = 0.5 * n + max(n - 4.0, vec4<f32>(0.0)) * 0.5 + select(vec4<f32>(0.0), vec4<f32>(1.0), n > vec4<f32>(6.5));
    return select(size, -size, (unpack4xU8(q & 0x08080808u) != vec4<u32>(0u)));
}
