// A run as int8: value i is d * q[i] + m, where each half of the run has its own d and m.
struct Ints {
    low: vec4<u32>,
    high: vec4<u32>,
    d: vec2<f32>,
    m: vec2<f32>,
}
