// Two runs that share their bytes: runs 0 and 2 of each four, and 1 and 3.
const SPAN: u32 = 2u;
const STEP: u32 = 2u;
struct Part {
    q: vec4<u32>,
    p: vec4<u32>,
    h: vec4<u32>,
    g: vec4<u32>,
    // For the halves of the first run, and of the second.
    d: vec4<f32>,
}
fn load_part(row: u32, i: u32) -> Part {
    let t = tile_at(row);
    let b = block_at(row, i >> 2u);
    let at = t + b * 13u;
    let four = (i >> 1u) & 1u;
    let n = i & 1u;
    let all = w[at + 12u];
    let two = select(all.xy, all.zw, four == 1u) >> vec2<u32>(n * 16u);
    let s = vec4<f32>(vec4<i32>(unpack4xI8(two.x).xy, unpack4xI8(two.y).xy));
    let q = at + four * 4u + n * 2u;
    let h = at + 8u + four * 2u;
    let bits = vec4<u32>(n * 2u);
    return Part(w[q], w[q + 1u], w[h] >> bits, w[h + 1u] >> bits, half_at(t + BLOCKS * 208u, b) * s);
}
fn part_run(i: u32) -> u32 { return (i >> 1u) * 4u + (i & 1u); }
fn part_low(p: Part, c: u32) -> vec4<u32> { return six(p.q >> vec4<u32>(c * 4u), p.h >> vec4<u32>(c * 4u)); }
fn part_high(p: Part, c: u32) -> vec4<u32> { return six(p.p >> vec4<u32>(c * 4u), p.g >> vec4<u32>(c * 4u)); }
fn part_scale(p: Part, c: u32) -> vec2<f32> { return select(p.d.xy, p.d.zw, c == 1u); }
fn part_minimum(p: Part, c: u32) -> vec2<f32> { return -32.0 * part_scale(p, c); }
