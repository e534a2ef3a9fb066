// Packed weights, addressed by byte. Blocks start at even addresses, not necessarily at multiples of four.
fn u8_at(b: u32) -> u32 { return (w[b >> 2u] >> ((b & 3u) * 8u)) & 0xffu; }
fn i8_at(b: u32) -> f32 { return f32((i32(w[b >> 2u] << (24u - (b & 3u) * 8u))) >> 24u); }
// `b` is even.
fn u16_at(b: u32) -> u32 { return (w[b >> 2u] >> ((b & 2u) * 8u)) & 0xffffu; }
fn half_at(b: u32) -> f32 { return half(u16_at(b)); }
// `b` is even. Reads one word too far if it is not a multiple of four: weights have padding at their end.
fn u32_at(b: u32) -> u32 {
    let i = b >> 2u;
    return select(w[i], (w[i] >> 16u) | (w[i + 1u] << 16u), (b & 2u) != 0u);
}
