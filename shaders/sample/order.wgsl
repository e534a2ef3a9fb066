// A key and a number, in order: the larger key first, among equals the lower number. Keys are floats as integers in the
// same order, so that NaN and infinities have a place, however a device compares them.
const NONE = vec2<u32>(0u, 0xffffffffu);

fn key_of(bits: u32) -> u32 { return select(bits | 0x80000000u, ~bits, (bits >> 31u) != 0u); }

fn value_of(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) != 0u)); }

fn before(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x > b.x || (a.x == b.x && a.y < b.y); }
