// tanh without overflow and with small relative error near 0, whatever the precision of the built-in.
fn tanh_v(a: V) -> V {
    let s = a * a;
    let near = a * (V(1.0) + s * (V(-0.33333334) + s * (V(0.13333334) + s * (V(-0.053968254) + s * V(0.021869488)))));
    let far = V(1.0) - V(2.0) / (exp(2.0 * clamp(a, V(-15.0), V(15.0))) + V(1.0));
    return select(far, near, abs(a) < V(0.3));
}
