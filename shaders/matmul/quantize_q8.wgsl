// Rows of x as int8 with a scale per run of 32 columns, one run per thread: two vectors of bytes, then the scale and,
// for both halves, the sums times the scale.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;

fn size_of(v: vec4<f32>) -> vec4<u32> { return bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu); }
fn bytes_of(v: vec4<f32>, inverse: f32) -> u32 { return pack4xI8(vec4<i32>(round(v * inverse))); }
fn sum_of(q: vec4<u32>) -> f32 {
    let ones = 0x01010101u;
    return f32(dot4I8Packed(q.x, ones) + dot4I8Packed(q.y, ones) + dot4I8Packed(q.z, ones) + dot4I8Packed(q.w, ones));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= RUNS) {
        return;
    }
    let i = id.z * RUNS + id.x;
    let r = load_x_at(i * 8u);
    // Magnitudes are ordered like their bits, with infinity and then NaN at the end: a non-finite value makes the scale
    // non-finite, and with it every product.
    var most = max(max(size_of(r.a), size_of(r.b)), max(size_of(r.c), size_of(r.d)));
    most = max(most, max(max(size_of(r.e), size_of(r.f)), max(size_of(r.g), size_of(r.h))));
    let d = bitcast<f32>(max(max(most.x, most.y), max(most.z, most.w))) / 127.0;
    let inverse = select(0.0, 1.0 / d, d >= 1.17549435e-38);
    let low = vec4<u32>(bytes_of(r.a, inverse), bytes_of(r.b, inverse), bytes_of(r.c, inverse), bytes_of(r.d, inverse));
    let high = vec4<u32>(bytes_of(r.e, inverse), bytes_of(r.f, inverse), bytes_of(r.g, inverse), bytes_of(r.h, inverse));
    y[i * 3u] = low;
    y[i * 3u + 1u] = high;
    y[i * 3u + 2u] = bitcast<vec4<u32>>(vec4<f32>(d, d * sum_of(low), d * sum_of(high), 0.0));
}
