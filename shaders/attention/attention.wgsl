// Attention of one query head of one token: one workgroup. Keys come in tiles of TILE = WG * PER. First each thread
// scores PER keys; then thread (d, s) adds up vector d of the values, for every SPLITS-th key. The softmax is online:
// `top` is the largest score so far, and the sums are rescaled when it grows.

// Less than any score. Not -inf: fast-math compilers may assume that there is none.
const NEVER: f32 = -3.4e38;
const TILE: u32 = WG * PER;
const SPLITS: u32 = WG / N;

var<workgroup> query: array<V, N>;
var<workgroup> tops: array<f32, WG>;
var<workgroup> probs: array<f32, WG * PER>;
var<workgroup> sums: array<V, WG>;
var<workgroup> weights: array<f32, WG>;

fn score(row: u32, kv_head: u32) -> f32 {
    var s = V(0.0);
    for (var i = 0u; i < N; i++) {
        s = fma(query[i], k_at(row, kv_head, i), s);
    }
    return capped(sum_v(s));
}

fn decay(x: f32) -> f32 { return exp(max(x, -100.0)); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let kv_head = wid.x / (HEADS / KV_HEADS);
    let at = (wid.z * HEADS + wid.x) * N;
    if (tid < N) {
        query[tid] = q[at + tid] * SCALE;
    }
    let table = row_table(wid.z);
    let end = row_pos(wid.z) + 1u;
    let start = select(0u, end - min(WINDOW, end), WINDOW > 0u);
    let d = tid % N;
    let split = tid / N;
    var top = NEVER;
    var total = 0.0;
    var sum = V(0.0);
    workgroupBarrier();
    for (var base = start; base < end; base += TILE) {
        var s: array<f32, PER>;
        var mine = top;
        for (var i = 0u; i < PER; i++) {
            let key = base + i * WG + tid;
            s[i] = NEVER;
            if (key < end) {
                s[i] = score(kv_row(table, key), kv_head);
            }
            mine = max(mine, s[i]);
        }
        tops[tid] = mine;
        workgroupBarrier();
        for (var i = 0u; i < WG; i++) {
            mine = max(mine, tops[i]);
        }
        for (var i = 0u; i < PER; i++) {
            probs[i * WG + tid] = select(0.0, decay(s[i] - mine), base + i * WG + tid < end);
        }
        workgroupBarrier();
        let keep = decay(top - mine);
        sum *= keep;
        total *= keep;
        top = mine;
        if (split < SPLITS) {
            for (var j = split; j < min(TILE, end - base); j += SPLITS) {
                sum += probs[j] * v_at(kv_row(table, base + j), kv_head, d);
                total += probs[j];
            }
        }
        workgroupBarrier();
    }
    sums[tid] = sum;
    weights[tid] = total;
    workgroupBarrier();
    if (tid < N) {
        for (var i = 1u; i < SPLITS; i++) {
            sum += sums[tid + i * N];
            total += weights[tid + i * N];
        }
        y[at + tid] = gated(wid.z, wid.x * N + tid, sum / total);
    }
}
