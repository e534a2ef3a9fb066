// The tanh form of GELU, written as x * sigmoid(2 u): 1 + tanh(u) would cancel for small results. The first clamp keeps
// the cube finite, the second exp.
fn act(x: V) -> V {
    let a = clamp(x, V(-20.0), V(20.0));
    return x / (V(1.0) + exp(min(-1.5957691216 * (a + 0.044715 * a * a * a), V(80.0))));
}
