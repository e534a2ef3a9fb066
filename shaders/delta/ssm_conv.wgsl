// y[t] = silu(sum over j of w[j] * x[t - PAST + j]) for each column. A thread owns column ROW0 + its number, with its
// taps (a row of w, which may be one of several parts) and its inputs from before the segment, oldest first: it processes
// the tokens in order and leaves the last PAST inputs in the state. The workgroups along z are for segments.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<u32>;
@group(0) @binding(3) var<storage, read_write> state: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

const PAST: u32 = COLS - 1u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= ROWS) {
        return;
    }
    let c = ROW0 + id.x;
    var taps: array<f32, COLS>;
    for (var j = 0u; j < COLS; j++) {
        taps[j] = w_at(id.x * COLS + j);
    }
    var past: array<f32, PAST>;
    let segment = now.segment[id.z];
    if (segment.before > 0u) {
        for (var j = 0u; j < PAST; j++) {
            past[j] = state[slot_before(id.z) + j * Y_COLS + c];
        }
    }
    for (var t = 0u; t < segment.tokens; t++) {
        let row = segment.first + t;
        let present = x[row * X_STRIDE + X_AT + c];
        var s = present * taps[PAST];
        for (var j = 0u; j < PAST; j++) {
            s = fma(past[j], taps[j], s);
        }
        for (var j = 1u; j < PAST; j++) {
            past[j - 1u] = past[j];
        }
        past[PAST - 1u] = present;
        y[row * Y_COLS + c] = act(s);
        if (is_kept(id.z, t)) {
            let to = slot_after(id.z, t);
            for (var j = 0u; j < PAST; j++) {
                state[to + j * Y_COLS + c] = past[j];
            }
        }
    }
}
