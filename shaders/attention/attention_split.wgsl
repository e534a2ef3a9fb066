// Attention of G query heads of one kv head over the keys of a chunk: one workgroup. Each key and value is read once
// for all of them. LANES threads share a key, and a thread has EACH keys between barriers; then a thread adds up one
// vector of the values, for every SPLITS-th key. With more than one chunk the results go to `partial` (sums, then the
// largest score and the sum of weights) and another kernel joins them.
const KEYS: u32 = WG / LANES;
const SPLITS: u32 = WG / N;
// Threads that reduce a maximum or a sum together.
const FOLD: u32 = 8u;
// Values that a thread loads before it uses them.
const AHEAD: u32 = 4u;

// Less than any score. Not -inf: fast-math compilers may assume that there is none.
const NEVER: f32 = -3.4e38;

var<workgroup> query: array<V, G * N>;
var<workgroup> scores: array<f32, G * CHUNK>;
var<workgroup> part: array<f32, G * EACH * WG>;
var<workgroup> folded: array<f32, G * FOLD>;
var<workgroup> mix: array<V, WG>;

fn decay(x: f32) -> f32 { return exp(max(x, -100.0)); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let head0 = wid.x * G;
    let kv_head = head0 / (HEADS / KV_HEADS);
    let table = row_table(wid.z);
    let end = row_pos(wid.z) + 1u;
    let start = select(0u, end - min(WINDOW, end), WINDOW > 0u);
    let keys = chunk_keys();
    let chunk = start + wid.y * keys;
    if (chunk >= end) {
        return;
    }
    let count = min(keys, end - chunk);
    for (var i = tid; i < G * N; i += WG) {
        query[i] = q[(wid.z * HEADS + head0) * N + i] * SCALE;
    }
    workgroupBarrier();
    for (var base = 0u; base < count; base += KEYS * EACH) {
        // Explicit zeros: some compilers do not initialise variables declared in a loop again.
        var s: array<f32, G * EACH>;
        for (var i = 0u; i < G * EACH; i++) {
            s[i] = 0.0;
        }
        // Scores of keys beyond the chunk are not stored.
        var rows_of: array<u32, EACH>;
        for (var u = 0u; u < EACH; u++) {
            rows_of[u] = kv_row(table, chunk + min(base + u * KEYS + tid / LANES, count - 1u));
        }
        for (var i = tid % LANES; i < N; i += LANES) {
            for (var u = 0u; u < EACH; u++) {
                let key = k_at(rows_of[u], kv_head, i);
                for (var g = 0u; g < G; g++) {
                    s[g * EACH + u] += dot_v(query[g * N + i], key);
                }
            }
        }
        for (var i = 0u; i < G * EACH; i++) {
            part[i * WG + tid] = s[i];
        }
        workgroupBarrier();
        for (var i = tid; i < G * EACH * KEYS; i += WG) {
            var total = 0.0;
            for (var l = 0u; l < LANES; l++) {
                total += part[i * LANES + l];
            }
            let j = base + i % (EACH * KEYS);
            if (j < count) {
                scores[i / (EACH * KEYS) * CHUNK + j] = capped(total);
            }
        }
        workgroupBarrier();
    }
    for (var i = tid; i < G * FOLD; i += WG) {
        var top = NEVER;
        for (var j = i % FOLD; j < count; j += FOLD) {
            top = max(top, scores[i / FOLD * CHUNK + j]);
        }
        folded[i] = top;
    }
    workgroupBarrier();
    var tops: array<f32, G>;
    for (var g = 0u; g < G; g++) {
        tops[g] = NEVER;
        for (var i = 0u; i < FOLD; i++) {
            tops[g] = max(tops[g], folded[g * FOLD + i]);
        }
        for (var j = tid; j < count; j += WG) {
            scores[g * CHUNK + j] = decay(scores[g * CHUNK + j] - tops[g]);
        }
    }
    workgroupBarrier();
    for (var i = tid; i < G * FOLD; i += WG) {
        var total = 0.0;
        for (var j = i % FOLD; j < count; j += FOLD) {
            total += scores[i / FOLD * CHUNK + j];
        }
        folded[i] = total;
    }
    let d = tid % N;
    var o: array<V, G>;
    if (tid / N < SPLITS) {
        for (var first = tid / N; first < count; first += SPLITS * AHEAD) {
            var values: array<V, AHEAD>;
            for (var u = 0u; u < AHEAD; u++) {
                values[u] = v_at(kv_row(table, chunk + min(first + u * SPLITS, count - 1u)), kv_head, d);
            }
            for (var u = 0u; u < AHEAD; u++) {
                let j = first + u * SPLITS;
                for (var g = 0u; g < G; g++) {
                    o[g] += select(0.0, scores[g * CHUNK + min(j, count - 1u)], j < count) * values[u];
                }
            }
        }
    }
    for (var g = 0u; g < G; g++) {
        workgroupBarrier();
        mix[tid] = o[g];
        workgroupBarrier();
        if (tid < N) {
            var sum = mix[tid];
            for (var i = 1u; i < SPLITS; i++) {
                sum += mix[tid + i * N];
            }
            var total = 0.0;
            for (var i = 0u; i < FOLD; i++) {
                total += folded[g * FOLD + i];
            }
            finish(wid.z, head0 + g, wid.y, d, sum, tops[g], total);
        }
    }
}
