// The gated delta rule. Column j of a head's state M [key, value] meets no other column: a workgroup owns COLUMNS of
// them, and SPLIT threads share the D keys of each, so that a thread keeps PER values of M in registers while it goes
// through the tokens. With M decayed and c = sigmoid(beta) (v - M^T k), the result (M + k c^T)^T q is M^T q + (k . q) c:
// one round of sums and one barrier a token.
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> alpha: array<f32>;
@group(0) @binding(5) var<storage, read> beta: array<f32>;
// The a of each value head, then the dt of each.
@group(0) @binding(6) var<storage, read> gates: array<f32>;
@group(0) @binding(7) var<storage, read_write> state: array<f32>;
@group(0) @binding(8) var<storage, read_write> y: array<f32>;

const WG: u32 = COLUMNS * SPLIT;
const PER: u32 = D / SPLIT;

// Two halves that tokens take in turn: a thread may be one token ahead of another.
var<workgroup> sums: array<vec3<f32>, 2u * WG>;

// ln(1 + e^x) without overflow; ln(1 + u) by its series in u / (2 + u), whatever the precision of the built-in.
fn softplus(x: f32) -> f32 {
    let u = exp(max(-abs(x), -100.0));
    let r = u / (2.0 + u);
    let s = r * r;
    let tail = 0.11111111 + s * (0.09090909 + s * 0.07692308);
    return max(x, 0.0) + 2.0 * r * (1.0 + s * (0.33333334 + s * (0.2 + s * (0.14285715 + s * tail))));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let head = wid.y;
    let lane = tid % COLUMNS;
    let split = tid / COLUMNS;
    let j = wid.x * COLUMNS + lane;
    let owned = j < D;
    let at = (head * D + split) * D + j;
    var m: array<f32, PER>;
    // A sequence starts from zeros, whatever the one before it left.
    if (owned && now.pos > 0u) {
        for (var n = 0u; n < PER; n++) {
            m[n] = state[at + n * SPLIT * D];
        }
    }
    for (var t = 0u; t < now.tokens; t++) {
        let i = t * V_HEADS + head;
        let keep = exp(max(gates[head] * softplus(alpha[i] + gates[V_HEADS + head]), -100.0));
        let from_key = (t * K_HEADS + head % K_HEADS) * D + split;
        var keys: array<f32, PER>;
        // Column j of M^T k and of M^T q, and k . q.
        var s = vec3<f32>(0.0);
        for (var n = 0u; n < PER; n++) {
            keys[n] = k[from_key + n * SPLIT];
            let query = q[from_key + n * SPLIT];
            m[n] *= keep;
            s = fma(vec3<f32>(m[n], m[n], keys[n]), vec3<f32>(keys[n], query, query), s);
        }
        if (SPLIT > 1u) {
            let half = (t & 1u) * WG;
            sums[half + tid] = s;
            workgroupBarrier();
            s = vec3<f32>(0.0);
            for (var p = 0u; p < SPLIT; p++) {
                s += sums[half + p * COLUMNS + lane];
            }
        }
        let change = (v[i * D + min(j, D - 1u)] - s.x) / (1.0 + exp(min(-beta[i], 80.0)));
        for (var n = 0u; n < PER; n++) {
            m[n] = fma(keys[n], change, m[n]);
        }
        if (owned && split == 0u) {
            y[i * D + j] = fma(s.z, change, s.y);
        }
    }
    if (owned) {
        for (var n = 0u; n < PER; n++) {
            state[at + n * SPLIT * D] = m[n];
        }
    }
}
