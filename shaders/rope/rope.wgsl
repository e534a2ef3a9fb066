// Rotates pairs of each head, copies the rest; one pair or copied value per thread.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> turns: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

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
    let cs = angle(coordinate(id.z, i), i);
    let p = head + select(i, 2u * i, ADJACENT);
    let q = head + select(i + PAIRS, 2u * i + 1u, ADJACENT);
    let u = x[p];
    let v = x[q];
    y[p] = u * cs.x - v * cs.y;
    y[q] = u * cs.y + v * cs.x;
}
