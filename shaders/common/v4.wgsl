// Rows are read four values at a time.
alias V = vec4<f32>;
const VW: u32 = 4u;
fn dot_v(a: V, b: V) -> f32 { return dot(a, b); }
fn sum_v(a: V) -> f32 { return dot(a, V(1.0)); }
fn fma_v(a: V, b: V, s: f32) -> f32 { return fma(a.x, b.x, fma(a.y, b.y, fma(a.z, b.z, fma(a.w, b.w, s)))); }
