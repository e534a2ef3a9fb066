// Keys and values as f16, two per word.
// The clamp keeps them finite.
fn narrow(v: V) -> vec2<u32> {
    let c = clamp(v, V(-65504.0), V(65504.0));
    return vec2<u32>(pack2x16float(c.xy), pack2x16float(c.zw));
}
fn store_key(row_head: u32, i: u32, v: V) { keys[row_head * N + i] = narrow(v); }
fn store_value(row_head: u32, i: u32, v: V) { values[row_head * N + i] = narrow(v); }
