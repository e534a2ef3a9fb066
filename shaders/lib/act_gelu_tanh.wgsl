// Beyond 20 the cubic adds nothing to a saturated tanh, and could overflow.
fn act(x: V) -> V {
    let a = clamp(x, V(-20.0), V(20.0));
    return 0.5 * x * (V(1.0) + tanh_v(0.7978845608 * (a + 0.044715 * a * a * a)));
}
