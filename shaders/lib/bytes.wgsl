// Packed weights, addressed by byte. Blocks start at even addresses, not at multiples of four.
fn u8_at(b: u32) -> u32 { return (w[b >> 2u] >> ((b & 3u) * 8u)) & 0xffu; }
fn i8_at(b: u32) -> f32 { return f32((i32(w[b >> 2u] << (24u - (b & 3u) * 8u))) >> 24u); }
// `b` is even.
fn u16_at(b: u32) -> u32 { return (w[b >> 2u] >> ((b & 2u) * 8u)) & 0xffffu; }
fn half_at(b: u32) -> f32 { return half(u16_at(b)); }
// `b` is even. Reads one word too far where it is no multiple of four: weights have slack at their end.
fn u32_at(b: u32) -> u32 {
    let i = b >> 2u;
    return select(w[i], (w[i] >> 16u) | (w[i + 1u] << 16u), (b & 2u) != 0u);
}
// The low, or the high, half of each byte.
fn low4(q: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8(q & 0x0f0f0f0fu)); }
fn high4(q: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)); }
// Bits 0 to 3 of `n`, one to each byte, at bit 4.
fn spread5(n: u32) -> u32 { return (((n & 0xfu) * 0x00204081u) & 0x01010101u) << 4u; }
