// Joins the chunks of a head of one token: a thread sums one vector over every SPLITS-th chunk, then over all of them.
const SPLITS: u32 = WG / N;

// For each thread its sum, and the sum of its weights.
var<workgroup> sums: array<V, WG>;
var<workgroup> totals: array<f32, WG>;

fn decay(x: f32) -> f32 { return exp(max(x, -100.0)); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let end = row_pos(wid.z) + 1u;
    let seen = select(end, min(WINDOW, end), WINDOW > 0u);
    let keys = chunk_keys();
    let chunks = (seen + keys - 1u) / keys;
    let at = (wid.z * HEADS + wid.x) * CHUNKS * (N + 1u);
    // Less than any score. Not -inf: fast-math compilers may assume that there is none.
    var top = -3.4e38;
    for (var i = 0u; i < chunks; i++) {
        top = max(top, partial[at + i * (N + 1u) + N].x);
    }
    var total = 0.0;
    var sum = V(0.0);
    for (var i = tid / N; i < chunks && tid < SPLITS * N; i += SPLITS) {
        let of_chunk = partial[at + i * (N + 1u) + N];
        let f = decay(of_chunk.x - top);
        total = fma(f, of_chunk.y, total);
        sum += f * partial[at + i * (N + 1u) + tid % N];
    }
    sums[tid] = sum;
    totals[tid] = total;
    workgroupBarrier();
    if (tid < N) {
        for (var i = 1u; i < SPLITS; i++) {
            sum += sums[tid + i * N];
            total += totals[tid + i * N];
        }
        y[(wid.z * HEADS + wid.x) * N + tid] = gated(wid.z, wid.x * N + tid, sum / total);
    }
}
