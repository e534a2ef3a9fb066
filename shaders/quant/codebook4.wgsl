// The 16 values of the IQ4 types, as signed bytes in four words: a table in registers; an array would be in memory.
fn code4(q: u32) -> vec4<f32> {
    let n = unpack4xU8(q & 0x0f0f0f0fu);
    let low = select(vec4<u32>(0xbfad9881u), vec4<u32>(0xf6eaddcfu), n > vec4<u32>(3u));
    let high = select(vec4<u32>(0x26190d01u), vec4<u32>(0x71594535u), n > vec4<u32>(11u));
    let word = select(low, high, n > vec4<u32>(7u));
    let shift = vec4<u32>(24u) - (n & vec4<u32>(3u)) * 8u;
    return vec4<f32>(bitcast<vec4<i32>>(word << shift) >> vec4<u32>(24u));
}
