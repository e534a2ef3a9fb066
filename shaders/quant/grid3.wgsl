// Four values of eight levels from each point, with four signs.
fn three(p: u32, s: u32) -> vec4<f32> {
    return with_signs(levels((vec4<u32>(p) >> vec4<u32>(0u, 3u, 6u, 9u)) & vec4<u32>(7u)), s);
}
fn run3(p: vec4<u32>, q: vec4<u32>, s: vec4<u32>, d: f32) -> Run {
    let t = s >> vec4<u32>(4u);
    return Run(
        three(p.x, s.x) * d, three(p.y, t.x) * d, three(p.z, s.y) * d, three(p.w, t.y) * d,
        three(q.x, s.z) * d, three(q.y, t.z) * d, three(q.z, s.w) * d, three(q.w, t.w) * d);
}
