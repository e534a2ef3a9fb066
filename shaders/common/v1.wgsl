// Rows are read value by value if their length is not a multiple of four.
alias V = f32;
const VW: u32 = 1u;
fn dot_v(a: V, b: V) -> f32 { return a * b; }
fn sum_v(a: V) -> f32 { return a; }
fn fma_v(a: V, b: V, s: f32) -> f32 { return fma(a, b, s); }
