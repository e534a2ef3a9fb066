// Keys and values as int8, four per word; after each head its scales of 32 values each, as f16, two per word. `row` is
// what `kv_row` gives.
const SCALE_WORDS: u32 = (N + 15u) / 16u;
fn head_at(row: u32, head: u32) -> u32 { return (row * KV_HEADS + head) * (N + SCALE_WORDS); }
fn scale_of(word: u32, i: u32) -> f32 { return unpack2x16float(word >> ((i & 8u) * 2u)).x; }
fn k_at(row: u32, head: u32, i: u32) -> V {
    let at = head_at(row, head);
    return V(unpack4xI8(k[at + i])) * scale_of(k[at + N + (i >> 4u)], i);
}
fn v_at(row: u32, head: u32, i: u32) -> V {
    let at = head_at(row, head);
    return V(unpack4xI8(v[at + i])) * scale_of(v[at + N + (i >> 4u)], i);
}
