// y[t] = the sum of the rows of the token's experts, each times its share.
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= N) {
        return;
    }
    var s = V(0.0);
    for (var i = 0u; i < USED; i++) {
        s += route[(id.z * 2u + 1u) * USED + i] * x[(id.z * USED + i) * N + id.x];
    }
    y[id.z * N + id.x] = finish(id.z, id.x, s);
}
