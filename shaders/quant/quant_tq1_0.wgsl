// 54 bytes: 32 bytes of five base-3 digits, whose digit n is run n; 16 bytes of five more, and 4 bytes of four for the
// last 16 values; f16 scale. A byte is a fraction of 256: each digit is the integer part of three times the fraction.
fn trits(b: u32, digit: u32) -> vec4<f32> {
    let power = select(1u, 3u, (digit & 1u) != 0u) * select(1u, 9u, (digit & 2u) != 0u) * select(1u, 81u, digit > 3u);
    let rest = (unpack4xU8(u32_at(b)) * power) & vec4<u32>(255u);
    return vec4<f32>((rest * 3u) >> vec4<u32>(8u)) - 1.0;
}
// The first half of a run is digit `m` of 16 bytes. So is the second for runs 0 to 4; for 5 and 6 it is the next digit
// of the same bytes, for 7 all of the last 4 bytes. One path for all of them, to avoid divergent branches.
fn load_run(row: u32, run: u32) -> Run {
    let b = row + (run >> 3u) * 54u;
    let n = run & 7u;
    let d = half_at(b + 52u);
    let long = n < 5u;
    let last = n == 7u;
    let m = select(n * 2u - 10u, n, long);
    let c = select(b + 32u, b, long);
    let e = select(select(b + 32u, b + 48u, last), b + 16u, long);
    let step = select(4u, 0u, last);
    let k = select(vec4<u32>(select(m + 1u, m, long)), vec4<u32>(0u, 1u, 2u, 3u), last);
    return Run(
        trits(c, m) * d, trits(c + 4u, m) * d, trits(c + 8u, m) * d, trits(c + 12u, m) * d,
        trits(e, k.x) * d, trits(e + step, k.y) * d, trits(e + step * 2u, k.z) * d, trits(e + step * 3u, k.w) * d);
}
