// y[t] = SCALE * W[id of t], one run of 32 values per thread. W may be one of several parts: it has rows ROW0 to ROW0 +
// ROWS.

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = row_id(id.z) - ROW0;
    if (id.x >= RUNS || row >= ROWS) {
        return;
    }
    let r = load_run(row_base(row), id.x);
    let o = (id.z * RUNS + id.x) * 8u;
    y[o] = r.a * SCALE;
    y[o + 1u] = r.b * SCALE;
    y[o + 2u] = r.c * SCALE;
    y[o + 3u] = r.d * SCALE;
    y[o + 4u] = r.e * SCALE;
    y[o + 5u] = r.f * SCALE;
    y[o + 6u] = r.g * SCALE;
    y[o + 7u] = r.h * SCALE;
}
