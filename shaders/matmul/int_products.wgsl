// Four rows of W times a run of a row of x, in int8: of W both halves and the four scales and minima of each row, of x both
// halves, the scale and the scaled sums of the halves.
fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y) + dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w);
}
fn dots(a: array<vec4<u32>, 4>, x: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(dot16(a[0], x), dot16(a[1], x), dot16(a[2], x), dot16(a[3], x));
}
fn add_products(
    sum: vec4<f32>, a: array<vec4<u32>, 4>, b: array<vec4<u32>, 4>, d: mat4x4<f32>,
    low: vec4<u32>, high: vec4<u32>, v: vec4<f32>) -> vec4<f32> {
    let p = dots(a, low);
    let t = dots(b, high);
    var s = sum;
    if (HALVED) {
        s += (d[0] * vec4<f32>(p) + d[1] * vec4<f32>(t)) * v.x;
    } else {
        s += d[0] * vec4<f32>(p + t) * v.x;
    }
    if (HALVED && MINIMA) {
        s += d[2] * v.y + d[3] * v.z;
    } else if (MINIMA) {
        s += d[2] * (v.y + v.z);
    }
    return s;
}
