// Rotates pairs of each head, copies what is not rotated; a thread takes a pair or a copied value.
// turns[i] is angle i of position 1, as a 64-bit fraction of a turn (low word, high word): multiplied by the position
// modulo one turn it stays exact at any position, where f32 radians would lose all digits.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> turns: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

// The upper word of a * b, without the carry of the lowest parts.
fn mul_high(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    return ah * bh + ((ah * bl) >> 16u) + ((al * bh) >> 16u);
}

// (cos, sin) of a turn / 2^32: the nearest quarter, and Taylor series over the eighth at either side of it.
fn cos_sin(turn: u32) -> vec2<f32> {
    let quarter = (turn + 0x20000000u) >> 30u;
    let a = f32(bitcast<i32>(turn - (quarter << 30u))) * 1.4629180792671596e-9;
    let s = a * a;
    let c = 1.0 + s * (-0.5 + s * (0.041666668 + s * (-0.0013888889 + s * 2.4801588e-5)));
    let d = a * (1.0 + s * (-0.16666667 + s * (0.008333334 + s * (-0.00019841270 + s * 2.7557319e-6))));
    let even = select(vec2<f32>(c, d), vec2<f32>(-d, c), (quarter & 1u) != 0u);
    return select(even, -even, (quarter & 2u) != 0u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // PAIRS pairs, then REST single values.
    let per_head = PAIRS + REST;
    if (id.x >= HEADS * per_head) {
        return;
    }
    let i = id.x % per_head;
    let head = (id.z * HEADS + id.x / per_head) * (2u * PAIRS + REST);
    if (i >= PAIRS) {
        y[head + PAIRS + i] = x[head + PAIRS + i];
        return;
    }
    let pos = now.pos + id.z;
    let cs = cos_sin(pos * turns[i].y + mul_high(pos, turns[i].x));
    let p = head + select(i, 2u * i, ADJACENT);
    let q = head + select(i + PAIRS, 2u * i + 1u, ADJACENT);
    let u = x[p];
    let v = x[q];
    y[p] = u * cs.x - v * cs.y;
    y[q] = u * cs.y + v * cs.x;
}
