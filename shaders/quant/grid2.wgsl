// Eight values of 8, 25 or 43 from each point, with eight signs.
fn two(p: u32, s: u32) -> vec4<f32> {
    let q = (vec4<u32>(p) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    return with_signs(q * 17u + (q >> vec4<u32>(1u)) + 8u, s);
}
// The first scale is for the first 16 values.
fn run2(p: vec4<u32>, s: vec4<u32>, d: vec2<f32>) -> Run {
    let q = p >> vec4<u32>(8u);
    let t = s >> vec4<u32>(4u);
    return Run(
        two(p.x, s.x) * d.x, two(q.x, t.x) * d.x, two(p.y, s.y) * d.x, two(q.y, t.y) * d.x,
        two(p.z, s.z) * d.y, two(q.z, t.z) * d.y, two(p.w, s.w) * d.y, two(q.w, t.w) * d.y);
}
