// Scales and minima of runs 2i and 2i + 1 of a block, i below 4: what `scale_min` reads, two at a time.
struct Pair {
    d: vec2<f32>,
    m: vec2<f32>,
}
fn scale_pair(head: vec4<u32>, i: u32) -> Pair {
    let b = head.yzw >> vec3<u32>((i & 1u) * 16u);
    let first = b.xy & vec2<u32>(0x3f3fu);
    let last = vec2<u32>(b.z & 0x0f0fu, (b.z >> 4u) & 0x0f0fu) | ((b.xy >> vec2<u32>(2u)) & vec2<u32>(0x3030u));
    let s = select(last, first, (i & 2u) == 0u);
    return Pair(
        half(head.x & 0xffffu) * vec2<f32>(unpack4xU8(s.x).xy), -half(head.x >> 16u) * vec2<f32>(unpack4xU8(s.y).xy));
}
