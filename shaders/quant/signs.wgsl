// `v` with four signs, from the lowest bit of `s` on: a set bit is a minus.
fn with_signs(v: vec4<u32>, s: u32) -> vec4<f32> {
    let minus = (vec4<u32>(s) << vec4<u32>(31u, 30u, 29u, 28u)) & vec4<u32>(0x80000000u);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(vec4<f32>(v)) ^ minus);
}
// Four codes of seven signs each; the eighth makes the number of negative values even.
fn even(codes: u32) -> vec4<u32> {
    let s = (vec4<u32>(codes) >> vec4<u32>(0u, 7u, 14u, 21u)) & vec4<u32>(127u);
    return s | ((countOneBits(s) & vec4<u32>(1u)) << vec4<u32>(7u));
}
