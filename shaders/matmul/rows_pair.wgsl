// The same rows of two matrices: those of gate, then those of up.
fn rows_pair(first: u32, lane: u32, run0: u32) -> array<f32, NR * T> {
    var low = rows_0(first, lane, run0);
    var high = rows_1(first, lane, run0);
    var all: array<f32, NR * T>;
    for (var i = 0u; i < OUT * T; i++) {
        all[i] = low[i];
        all[OUT * T + i] = high[i];
    }
    return all;
}
