// A thread writes four values; it reads all 32 of their block for the scale, and one of 16 threads writes two scales.
const SCALE_WORDS: u32 = (N + 15u) / 16u;
fn scale_bits(block: u32) -> u32 {
    var most = 0.0;
    for (var j = block * 32u; j < min(block * 32u + 32u, D); j++) {
        most = max(most, abs(head[j]));
    }
    return pack2x16float(vec2<f32>(min(most / 127.0, 65504.0), 0.0));
}
fn bytes_of(i: u32, v: V) -> u32 {
    let d = unpack2x16float(scale_bits(i >> 3u)).x;
    let q = bitcast<vec4<u32>>(vec4<i32>(clamp(round(v / select(d, 1.0, d == 0.0)), V(-127.0), V(127.0)))) & vec4<u32>(0xffu);
    return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}
fn scales(i: u32) -> u32 { return scale_bits(i >> 3u) | (scale_bits((i >> 3u) + 1u) << 16u); }
fn store_key(row_head: u32, i: u32, v: V) {
    let at = row_head * (N + SCALE_WORDS);
    keys[at + i] = bytes_of(i, v);
    if ((i & 15u) == 0u) {
        keys[at + N + (i >> 4u)] = scales(i);
    }
}
fn store_value(row_head: u32, i: u32, v: V) {
    let at = row_head * (N + SCALE_WORDS);
    values[at + i] = bytes_of(i, v);
    if ((i & 15u) == 0u) {
        values[at + N + (i >> 4u)] = scales(i);
    }
}
