// One head of one token per workgroup: query heads are normed, rotated and returned, key heads normed, rotated and
// stored, value heads stored. The table has the norm of q, then that of k.

var<workgroup> head: array<f32, D>;
var<workgroup> part: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let is_q = wid.x < HEADS;
    let is_v = wid.x >= HEADS + KV_HEADS;
    let number = select(select(wid.x - HEADS, wid.x - HEADS - KV_HEADS, is_v), wid.x, is_q);
    let begin = wid.z * STRIDE + select(select(K_AT, V_AT, is_v) + number * D, Q_AT + number * Q_GROUP, is_q);
    var s = 0.0;
    for (var i = tid; i < D; i += WG) {
        let v = x[begin + i];
        head[i] = v;
        s = fma(v, v, s);
    }
    part[tid] = s;
    workgroupBarrier();
    let pos = row_pos(wid.z);
    if (!is_v) {
        var f = 1.0;
        if (NORMED) {
            var total = 0.0;
            for (var i = 0u; i < WG; i++) {
                total += part[i];
            }
            f = 1.0 / sqrt(total / f32(D) + EPS);
            for (var i = tid; i < D; i += WG) {
                head[i] *= f * table[select(D, 0u, is_q) + i];
            }
            workgroupBarrier();
        }
        for (var i = tid; i < PAIRS; i += WG) {
            let cs = angle(coordinate(wid.z, i), i);
            let p = select(i, 2u * i, ADJACENT);
            let q = select(i + PAIRS, 2u * i + 1u, ADJACENT);
            let u = head[p];
            let v = head[q];
            head[p] = u * cs.x - v * cs.y;
            head[q] = u * cs.y + v * cs.x;
        }
        workgroupBarrier();
    }
    let row_head = kv_row(row_table(wid.z), pos) * KV_HEADS + number;
    for (var i = tid; i < N; i += WG) {
        let v = V(head[4u * i], head[4u * i + 1u], head[4u * i + 2u], head[4u * i + 3u]);
        if (is_q) {
            y[(wid.z * HEADS + number) * N + i] = v;
        } else if (is_v) {
            store_value(row_head, i, v);
        } else {
            store_key(row_head, i, v);
        }
    }
}
