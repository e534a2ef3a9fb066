// GELU, max(x, 0) - |x| * erfc(|x| / sqrt(2)) / 2, with erfc by number 7.1.26 of Abramowitz and Stegun (within 1.5e-7). The
// clamp keeps the square finite, and exp above its subnormal results.
fn act(x: V) -> V {
    let z = min(abs(x) * 0.70710678, V(9.0));
    let t = V(1.0) / (V(1.0) + 0.3275911 * z);
    let tail = V(1.4214138) + t * (V(-1.4531521) + t * 1.0614054);
    let erfc = t * (V(0.2548296) + t * (V(-0.28449674) + t * tail)) * exp(-z * z);
    return max(x, V(0.0)) - 0.5 * abs(x) * erfc;
}
