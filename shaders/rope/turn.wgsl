// turns[i] is angle i of position 1, as a 64-bit fraction of a turn (low word, high word). Multiplied by the position,
// modulo one turn, it stays exact at any position, while f32 radians would lose all digits.

// The high word of a * b, without the carry of the lowest parts.
fn mul_high(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    return ah * bh + ((ah * bl) >> 16u) + ((al * bh) >> 16u);
}

// (cos, sin) of a turn / 2^32: the nearest quarter, and Taylor series over the eighth on either side of it.
fn cos_sin(turn: u32) -> vec2<f32> {
    let quarter = (turn + 0x20000000u) >> 30u;
    let a = f32(bitcast<i32>(turn - (quarter << 30u))) * 1.4629180792671596e-9;
    let s = a * a;
    let c = 1.0 + s * (-0.5 + s * (0.041666668 + s * (-0.0013888889 + s * 2.4801588e-5)));
    let d = a * (1.0 + s * (-0.16666667 + s * (0.008333334 + s * (-0.00019841270 + s * 2.7557319e-6))));
    let even = select(vec2<f32>(c, d), vec2<f32>(-d, c), (quarter & 1u) != 0u);
    return select(even, -even, (quarter & 2u) != 0u);
}

// (cos, sin) of angle i at a position.
fn angle(pos: u32, i: u32) -> vec2<f32> { return cos_sin(pos * turns[i].y + mul_high(pos, turns[i].x)); }
