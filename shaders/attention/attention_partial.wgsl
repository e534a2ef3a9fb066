// For each chunk of each head N vectors of sums, and one with the largest score and the sum of weights.
fn finish(token: u32, head: u32, split: u32, d: u32, sum: V, top: f32, total: f32) {
    let at = ((token * HEADS + head) * CHUNKS + split) * (N + 1u);
    partial[at + d] = sum;
    if (d == 0u) {
        partial[at + N] = V(top, total, 0.0, 0.0);
    }
}
