// A run as whole numbers of 8 bits: value i is d * q[i] + m, where each half of the run has its own d and m.
struct Ints {
    low: vec4<u32>,
    high: vec4<u32>,
    d: vec2<f32>,
    m: vec2<f32>,
}
