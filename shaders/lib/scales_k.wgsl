// Scale and minimum of run `n` of 8, six bits each, from the 12 bytes that start at word `i`.
fn scale_min(i: u32, n: u32) -> vec2<f32> {
    let s = (n & 3u) * 8u;
    let a = (w[i] >> s) & 0xffu;
    let b = (w[i + 1u] >> s) & 0xffu;
    let c = (w[i + 2u] >> s) & 0xffu;
    let first = vec2<u32>(a & 63u, b & 63u);
    let last = vec2<u32>((c & 15u) | ((a >> 6u) << 4u), (c >> 4u) | ((b >> 6u) << 4u));
    return vec2<f32>(select(last, first, n < 4u));
}
