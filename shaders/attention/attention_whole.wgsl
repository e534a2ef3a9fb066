// All keys were seen: the sums are divided by the sum of weights and gated.
fn finish(token: u32, head: u32, split: u32, d: u32, sum: V, top: f32, total: f32) {
    y[(token * HEADS + head) * N + d] = gated(token, head * N + d, sum / total);
}
fn chunk_keys() -> u32 { return CHUNK; }
