// The low, or the high, nibble of each byte.
fn low4(q: vec4<u32>) -> vec4<u32> { return q & vec4<u32>(0x0f0f0f0fu); }
fn high4(q: vec4<u32>) -> vec4<u32> { return (q >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu); }
// Of 16 bits, four per word and one per byte, at bit 4.
fn fifth(bits: u32) -> vec4<u32> {
    let n = (vec4<u32>(bits) >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(0xfu);
    return (n * 0x02040810u) & vec4<u32>(0x10101010u);
}
