// ln(1 + e^x) without overflow; ln(1 + u) by its series in u / (2 + u), whatever the precision of the built-in.
fn softplus(x: f32) -> f32 {
    let u = exp(max(-abs(x), -100.0));
    let r = u / (2.0 + u);
    let s = r * r;
    let tail = 0.11111111 + s * (0.09090909 + s * 0.07692308);
    return max(x, 0.0) + 2.0 * r * (1.0 + s * (0.33333334 + s * (0.2 + s * (0.14285715 + s * tail))));
}
// The decay of a head's state at token t, and the factor of the change that the token makes.
fn keep_at(t: u32, head: u32) -> f32 {
    return exp(max(gates[head] * softplus(alpha_at(t, head) + gates[DT_AT + head]), -100.0));
}
fn share_at(t: u32, head: u32) -> f32 { return 1.0 / (1.0 + exp(min(-beta_at(t, head), 80.0))); }
