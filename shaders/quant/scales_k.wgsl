// Scale and minimum of run `n` of 8, six bits each, from 12 bytes.
fn scale_min(v: vec3<u32>, n: u32) -> vec2<f32> {
    let b = (v >> vec3<u32>((n & 3u) * 8u)) & vec3<u32>(0xffu);
    let first = vec2<u32>(b.x & 63u, b.y & 63u);
    let last = vec2<u32>((b.z & 15u) | ((b.x >> 6u) << 4u), (b.z >> 4u) | ((b.y >> 6u) << 4u));
    return vec2<f32>(select(last, first, n < 4u));
}
