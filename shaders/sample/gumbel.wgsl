// Counter-based random numbers, as in `engine::sampler::random`, and their logarithms: an f32's `log` is too coarse
// near 1.
fn mix_bits(v: u32) -> u32 {
    var x = v + 0x9e3779b9u;
    x = (x ^ (x >> 16u)) * 0x7feb352du;
    x = (x ^ (x >> 15u)) * 0x846ca68bu;
    return x ^ (x >> 16u);
}

// ln((1 + s) / (1 - s)) for s up to 0.172: the next term is below 2^-27 of the sum.
fn twice_atanh(s: f32) -> f32 {
    let z = s * s;
    return 2.0 * s * (1.0 + z * (1.0 / 3.0 + z * (0.2 + z * (1.0 / 7.0 + z / 9.0))));
}

// The logarithm of a positive, normal number.
fn ln(x: f32) -> f32 {
    let above = bitcast<i32>(bitcast<u32>(x) - 0x3f3504f3u); // in units of the last place over sqrt(1/2)
    let m = bitcast<f32>(u32(above & 0x7fffff) + 0x3f3504f3u);
    return f32(above >> 23u) * 0.693147180559945 + twice_atanh((m - 1.0) / (m + 1.0));
}

// Slightly more than the largest result of `gumbel`.
const MAX_GUMBEL: f32 = 22.9;

// -ln(-ln(u)) for the u of a token.
fn gumbel(key: u32, id: u32) -> f32 {
    let h = mix_bits(mix_bits(id ^ key) + key);
    let w = (f32(~h) + 0.5) * 2.3283064365386963e-10; // 1 - u, exact where it is small
    if (w < 0.29) {
        return -ln(twice_atanh(w / (2.0 - w)));
    }
    return -ln(-ln((f32(h) + 0.5) * 2.3283064365386963e-10));
}
