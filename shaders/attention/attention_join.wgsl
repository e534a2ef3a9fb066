// Joins the chunks of a head of one token; a thread a vector.
@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let end = now.pos + wid.z + 1u;
    let seen = select(end, min(WINDOW, end), WINDOW > 0u);
    let chunks = (seen + CHUNK - 1u) / CHUNK;
    let at = (wid.z * HEADS + wid.x) * CHUNKS * (N + 1u);
    var top = partial[at + N].x;
    for (var i = 1u; i < chunks; i++) {
        top = max(top, partial[at + i * (N + 1u) + N].x);
    }
    var total = 0.0;
    var sum = V(0.0);
    for (var i = 0u; i < chunks; i++) {
        let of_chunk = partial[at + i * (N + 1u) + N];
        let f = exp(max(of_chunk.x - top, -100.0));
        total = fma(f, of_chunk.y, total);
        sum += f * partial[at + i * (N + 1u) + min(tid, N - 1u)];
    }
    if (tid < N) {
        y[(wid.z * HEADS + wid.x) * N + tid] = gated(wid.z, wid.x * N + tid, sum / total);
    }
}
