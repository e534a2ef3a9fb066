// Keys and values as int8, four per word; after each head its scales of 32 values each, as f16, two per word.
const SCALE_WORDS: u32 = (N + 15u) / 16u;
fn head_at(pos: u32, head: u32) -> u32 { return (kv_row(pos) * KV_HEADS + head) * (N + SCALE_WORDS); }
fn scale_of(word: u32, i: u32) -> f32 { return unpack2x16float(word >> ((i & 8u) * 2u)).x; }
fn k_at(pos: u32, head: u32, i: u32) -> V {
    let at = head_at(pos, head);
    return V(unpack4xI8(k[at + i])) * scale_of(k[at + N + (i >> 4u)], i);
}
fn v_at(pos: u32, head: u32, i: u32) -> V {
    let at = head_at(pos, head);
    return V(unpack4xI8(v[at + i])) * scale_of(v[at + N + (i >> 4u)], i);
}
