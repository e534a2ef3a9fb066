// Eight values of -1, 0 or 1 from each point, all eight shifted by an eighth.
fn one(p: u32, shift: f32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(p) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u)) + vec4<f32>(shift);
}
// The first scale is for the first 16 values. A set bit of `down` is for eight values that are shifted down.
fn run1(p: vec4<u32>, down: vec4<u32>, d: vec2<f32>) -> Run {
    let s = select(vec4<f32>(-0.875), vec4<f32>(-1.125), down != vec4<u32>(0u));
    let q = p >> vec4<u32>(8u);
    return Run(
        one(p.x, s.x) * d.x, one(q.x, s.x) * d.x, one(p.y, s.y) * d.x, one(q.y, s.y) * d.x,
        one(p.z, s.z) * d.y, one(q.z, s.z) * d.y, one(p.w, s.w) * d.y, one(q.w, s.w) * d.y);
}
