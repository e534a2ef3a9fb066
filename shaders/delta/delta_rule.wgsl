// The gated delta rule. The columns of a head's state M [key, value] are independent: a workgroup owns COLUMNS of them,
// and SPLIT threads share the D keys of each, so that a thread keeps PER values of M in registers for all tokens. With
// M decayed and c = sigmoid(beta) (v - M^T k), the result (M + k c^T)^T q is M^T q + (k . q) c: one round of sums and
// one barrier per token. With NORMED, q and k are normed by the sums of their squares in that round.

const WG: u32 = COLUMNS * SPLIT;
const PER: u32 = D / SPLIT;

// Two halves that tokens use alternately: a thread may be one token ahead of another.
var<workgroup> sums: array<vec3<f32>, 2u * WG>;
// k . k and q . q, for NORMED.
var<workgroup> squares: array<vec2<f32>, select(1u, 2u * WG, NORMED)>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let head = wid.y;
    let lane = tid % COLUMNS;
    let split = tid / COLUMNS;
    let j = wid.x * COLUMNS + lane;
    let owned = j < D;
    let at = (head * D + split) * D + j;
    var m: array<f32, PER>;
    let segment = now.segment[wid.z];
    let first = segment.first;
    if (owned && segment.before > 0u) {
        for (var n = 0u; n < PER; n++) {
            m[n] = state[slot_before(wid.z) + at + n * SPLIT * D];
        }
    }
    for (var t = first; t < first + segment.tokens; t++) {
        let keep = keep_at(t, head);
        let from_key = head % K_HEADS * D + split;
        var keys: array<f32, PER>;
        // Column j of M^T k and of M^T q, and k . q.
        var s = vec3<f32>(0.0);
        var norms = vec2<f32>(0.0);
        for (var n = 0u; n < PER; n++) {
            keys[n] = k_at(t, from_key + n * SPLIT);
            let query = q_at(t, from_key + n * SPLIT);
            m[n] *= keep;
            s = fma(vec3<f32>(m[n], m[n], keys[n]), vec3<f32>(keys[n], query, query), s);
            if (NORMED) {
                norms = fma(vec2<f32>(keys[n], query), vec2<f32>(keys[n], query), norms);
            }
        }
        if (SPLIT > 1u) {
            let half = (t & 1u) * WG;
            sums[half + tid] = s;
            if (NORMED) {
                squares[half + tid] = norms;
            }
            workgroupBarrier();
            s = vec3<f32>(0.0);
            norms = vec2<f32>(0.0);
            for (var p = 0u; p < SPLIT; p++) {
                s += sums[half + p * COLUMNS + lane];
                if (NORMED) {
                    norms += squares[half + p * COLUMNS + lane];
                }
            }
        }
        // The factors of k and of q.
        var f = vec2<f32>(1.0);
        if (NORMED) {
            f = vec2<f32>(K_SCALE, Q_SCALE) / sqrt(norms + EPS);
        }
        let value = v_at(t, head * D + min(j, D - 1u));
        let change = (value - f.x * s.x) * share_at(t, head);
        for (var n = 0u; n < PER; n++) {
            m[n] = fma(f.x * keys[n], change, m[n]);
        }
        if (owned && split == 0u) {
            y[(t * V_HEADS + head) * D + j] = f.y * fma(f.x * s.z, change, s.y);
        }
        if (owned && is_kept(wid.z, t - first)) {
            let to = slot_after(wid.z, t - first) + at;
            for (var n = 0u; n < PER; n++) {
                state[to + n * SPLIT * D] = m[n];
            }
        }
    }
}
