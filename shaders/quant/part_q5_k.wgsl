// Two runs that share their bytes, the words of their fifth bits and the header.
const SPAN: u32 = 2u;
const STEP: u32 = 1u;
struct Part {
    q: vec4<u32>,
    p: vec4<u32>,
    h: vec4<u32>,
    g: vec4<u32>,
    scales: Pair,
}
fn load_part(row: u32, i: u32) -> Part {
    let b = row + (i >> 2u) * 11u;
    let q = b + 3u + (i & 3u) * 2u;
    let n = vec4<u32>((i & 3u) * 2u);
    return Part(w[q], w[q + 1u], w[b + 1u] >> n, w[b + 2u] >> n, scale_pair(w[b], i & 3u));
}
fn five_of(q: vec4<u32>, h: vec4<u32>, c: u32) -> vec4<u32> {
    let fifth = ((h >> vec4<u32>(c)) & vec4<u32>(0x01010101u)) << vec4<u32>(4u);
    return ((q >> vec4<u32>(c * 4u)) & vec4<u32>(0x0f0f0f0fu)) | fifth;
}
fn part_run(i: u32) -> u32 { return i * 2u; }
fn part_low(p: Part, c: u32) -> vec4<u32> { return five_of(p.q, p.h, c); }
fn part_high(p: Part, c: u32) -> vec4<u32> { return five_of(p.p, p.g, c); }
fn part_scale(p: Part, c: u32) -> vec2<f32> { return vec2<f32>(p.scales.d[c]); }
fn part_minimum(p: Part, c: u32) -> vec2<f32> { return vec2<f32>(p.scales.m[c]); }
