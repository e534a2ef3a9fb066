// Keys per chunk in this step: as many chunks as fill a GPU, of SHORTEST to CHUNK keys. `Chunks` in Rust computes the
// same.
fn chunk_keys() -> u32 {
    let seen = select(now.keys, min(WINDOW, now.keys), WINDOW > 0u);
    return min((seen + WANTED * SHORTEST - 1u) / (WANTED * SHORTEST) * SHORTEST, CHUNK);
}
