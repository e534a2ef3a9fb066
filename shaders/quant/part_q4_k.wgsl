// Two runs that share their bytes and the header.
const SPAN: u32 = 2u;
const STEP: u32 = 1u;
struct Part {
    q: vec4<u32>,
    p: vec4<u32>,
    scales: Pair,
}
fn load_part(row: u32, i: u32) -> Part {
    let b = row + (i >> 2u) * 9u;
    let q = b + 1u + (i & 3u) * 2u;
    return Part(w[q], w[q + 1u], scale_pair(w[b], i & 3u));
}
fn part_run(i: u32) -> u32 { return i * 2u; }
fn part_low(p: Part, c: u32) -> vec4<u32> { return (p.q >> vec4<u32>(c * 4u)) & vec4<u32>(0x0f0f0f0fu); }
fn part_high(p: Part, c: u32) -> vec4<u32> { return (p.p >> vec4<u32>(c * 4u)) & vec4<u32>(0x0f0f0f0fu); }
fn part_scale(p: Part, c: u32) -> vec2<f32> { return vec2<f32>(p.scales.d[c]); }
fn part_minimum(p: Part, c: u32) -> vec2<f32> { return vec2<f32>(p.scales.m[c]); }
