// blend of all rows of W, one run of 32 values per thread: for quantised types, whose values are unpacked run by run. A row
// of x has a share for each of the ROWS rows.

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= RUNS) {
        return;
    }
    var s: Run;
    for (var row = 0u; row < ROWS; row++) {
        let share = x[id.z * ROWS + row];
        let r = load_run(row_base(row), id.x);
        s.a += share * r.a;
        s.b += share * r.b;
        s.c += share * r.c;
        s.d += share * r.d;
        s.e += share * r.e;
        s.f += share * r.f;
        s.g += share * r.g;
        s.h += share * r.h;
    }
    let o = (id.z * RUNS + id.x) * 8u;
    y[o] = s.a;
    y[o + 1u] = s.b;
    y[o + 2u] = s.c;
    y[o + 3u] = s.d;
    y[o + 4u] = s.e;
    y[o + 5u] = s.f;
    y[o + 6u] = s.g;
    y[o + 7u] = s.h;
}
