// The low, or the high, half of each byte.
fn low4(q: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8(q & 0x0f0f0f0fu)); }
fn high4(q: u32) -> vec4<f32> { return vec4<f32>(unpack4xU8((q >> 4u) & 0x0f0f0f0fu)); }
// Bits 0 to 3 of `n`, one to each byte, at bit 4.
fn spread5(n: u32) -> u32 { return (((n & 0xfu) * 0x00204081u) & 0x01010101u) << 4u; }
