// Keys and values as signed bytes, four to a word, and behind those of all rows the scales of 32 values each, as f16, two
// to a word. A head has whole words of scales.
const SCALE_WORDS: u32 = (N + 15u) / 16u;
fn scale_word(row_head: u32, i: u32) -> u32 { return SCALES_AT + row_head * SCALE_WORDS + (i >> 4u); }
fn scale_of(word: u32, i: u32) -> f32 { return unpack2x16float(word >> ((i & 8u) * 2u)).x; }
fn k_at(pos: u32, head: u32, i: u32) -> V {
    let r = kv_row(pos) * KV_HEADS + head;
    return V(unpack4xI8(k[r * N + i])) * scale_of(k[scale_word(r, i)], i);
}
fn v_at(pos: u32, head: u32, i: u32) -> V {
    let r = kv_row(pos) * KV_HEADS + head;
    return V(unpack4xI8(v[r * N + i])) * scale_of(v[scale_word(r, i)], i);
}
