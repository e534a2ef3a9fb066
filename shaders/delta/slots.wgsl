// Recurrent states lie in slots, each of SLOT values. Where the state before a segment starts; only if it has one.
fn slot_before(s: u32) -> u32 { return (now.segment[s].before - 1u) * SLOT; }
// Whether the state after token t of a segment is kept, and where it starts.
fn is_kept(s: u32, t: u32) -> bool { return t + now.segment[s].kept >= now.segment[s].tokens; }
fn slot_after(s: u32, t: u32) -> u32 {
    let i = t + now.segment[s].kept - now.segment[s].tokens;
    return now.segment[s].after[i >> 2u][i & 3u] * SLOT;
}
