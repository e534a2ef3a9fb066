// The gated delta rule chunk by chunk, with the results of `delta_prepare` for each: products of small matrices instead
// of a round of sums per token. A workgroup owns COLUMNS columns of a head's state M [key, value], which are
// independent; a thread has two tokens of the chunk (in the end, vectors of keys) by two columns.
const LANES: u32 = COLUMNS / 2u;
const ROWS: u32 = C / 2u;
const WG: u32 = LANES * ROWS;

// Vectors of four keys.
var<workgroup> m: array<vec4<f32>, KEYS * COLUMNS>;
var<workgroup> wanted: array<f32, C * COLUMNS>;
var<workgroup> changes: array<f32, C * COLUMNS>;

fn wanted_v(i: u32) -> vec4<f32> {
    return vec4<f32>(wanted[i], wanted[i + COLUMNS], wanted[i + 2u * COLUMNS], wanted[i + 3u * COLUMNS]);
}

fn changes_v(i: u32) -> vec4<f32> {
    return vec4<f32>(changes[i], changes[i + COLUMNS], changes[i + 2u * COLUMNS], changes[i + 3u * COLUMNS]);
}

fn put(t: u32, end: u32, head: u32, j: u32, v: f32) {
    if (t < end && j < D) {
        y[(t * V_HEADS + head) * D + j] = v;
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let head = wid.y;
    let row = tid / LANES;
    let lane = tid % LANES;
    let j0 = wid.x * COLUMNS;
    let segment = now.segment[wid.z];
    let end = segment.first + segment.tokens;
    // The chunks of the segments before come first.
    var chunk = 0u;
    for (var s = 0u; s < wid.z; s++) {
        chunk += (now.segment[s].tokens + C - 1u) / C * CHUNK_LEN;
    }
    let j = vec2<u32>(j0 + lane, j0 + lane + LANES);
    for (var n = tid; n < KEYS * COLUMNS; n += WG) {
        var v = vec4<f32>(0.0);
        let column = j0 + n % COLUMNS;
        let key = n / COLUMNS * 4u;
        for (var e = 0u; e < 4u && key + e < D && column < D && segment.before > 0u; e++) {
            v[e] = state[slot_before(wid.z) + (head * D + key + e) * D + column];
        }
        m[n] = v;
    }
    workgroupBarrier();
    for (var t0 = segment.first; t0 < end; t0 += C) {
        let keys = chunk + head % K_HEADS * KEYS * 2u * C;
        let own = chunk + KEYS_LEN + head * HEAD_LEN;
        let t = vec2<u32>(t0 + row, t0 + row + ROWS);
        // M^T k of both tokens, and M^T q.
        var a = vec4<f32>(0.0);
        var b = vec4<f32>(0.0);
        for (var n = 0u; n < KEYS; n++) {
            let p = keys + n * 2u * C + row;
            let k0 = chunks[p];
            let k1 = chunks[p + ROWS];
            let q0 = chunks[p + 2u * ROWS];
            let q1 = chunks[p + 3u * ROWS];
            let u = m[n * COLUMNS + lane];
            let v = m[n * COLUMNS + lane + LANES];
            a += vec4<f32>(dot(k0, u), dot(k1, u), dot(q0, u), dot(q1, u));
            b += vec4<f32>(dot(k0, v), dot(k1, v), dot(q0, v), dot(q1, v));
        }
        let left = vec2<f32>(chunks[own + P_AT + row / 4u][row % 4u], chunks[own + P_AT + (row + ROWS) / 4u][row % 4u]);
        for (var i = 0u; i < 2u; i++) {
            let tt = min(t[i], end - 1u);
            let at = (row + i * ROWS) * COLUMNS + lane;
            wanted[at] = v_at(tt, head * D + min(j.x, D - 1u)) - left[i] * a[i];
            wanted[at + LANES] = v_at(tt, head * D + min(j.y, D - 1u)) - left[i] * b[i];
        }
        workgroupBarrier();
        var c = vec4<f32>(0.0);
        for (var i = 0u; i < C / 4u; i++) {
            let p = chunks[own + row * (C / 4u) + i];
            let q = chunks[own + (row + ROWS) * (C / 4u) + i];
            let u = wanted_v(i * 4u * COLUMNS + lane);
            let v = wanted_v(i * 4u * COLUMNS + lane + LANES);
            c += vec4<f32>(dot(p, u), dot(p, v), dot(q, u), dot(q, v));
        }
        changes[row * COLUMNS + lane] = c.x;
        changes[row * COLUMNS + lane + LANES] = c.y;
        changes[(row + ROWS) * COLUMNS + lane] = c.z;
        changes[(row + ROWS) * COLUMNS + lane + LANES] = c.w;
        workgroupBarrier();
        c = vec4<f32>(left.xx, left.yy) * vec4<f32>(a.z, b.z, a.w, b.w);
        for (var i = 0u; i < C / 4u; i++) {
            let p = chunks[own + A_AT + row * (C / 4u) + i];
            let q = chunks[own + A_AT + (row + ROWS) * (C / 4u) + i];
            let u = changes_v(i * 4u * COLUMNS + lane);
            let v = changes_v(i * 4u * COLUMNS + lane + LANES);
            c += vec4<f32>(dot(p, u), dot(p, v), dot(q, u), dot(q, v));
        }
        put(t.x, end, head, j.x, c.x);
        put(t.x, end, head, j.y, c.y);
        put(t.y, end, head, j.x, c.z);
        put(t.y, end, head, j.y, c.w);
        let all = chunks[own + P_AT + C / 4u - 1u].w;
        for (var n = row; n < KEYS; n += ROWS) {
            a = all * m[n * COLUMNS + lane];
            b = all * m[n * COLUMNS + lane + LANES];
            for (var i = 0u; i < C / 4u; i++) {
                let x = chunks[own + D_AT + i];
                let u = x * changes_v(i * 4u * COLUMNS + lane);
                let v = x * changes_v(i * 4u * COLUMNS + lane + LANES);
                for (var e = 0u; e < 4u; e++) {
                    let k = chunks[keys + n * 2u * C + i * 4u + e];
                    a = fma(k, vec4<f32>(u[e]), a);
                    b = fma(k, vec4<f32>(v[e]), b);
                }
            }
            m[n * COLUMNS + lane] = a;
            m[n * COLUMNS + lane + LANES] = b;
        }
        chunk += CHUNK_LEN;
        workgroupBarrier();
    }
    let to = slot_after(wid.z, segment.tokens - 1u);
    for (var n = tid; n < KEYS * COLUMNS; n += WG) {
        let column = j0 + n % COLUMNS;
        let key = n / COLUMNS * 4u;
        for (var e = 0u; e < 4u && key + e < D && column < D; e++) {
            state[to + (head * D + key + e) * D + column] = m[n][e];
        }
    }
}
