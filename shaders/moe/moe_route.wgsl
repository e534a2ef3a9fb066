// The USED best of EXPERTS for a token, one workgroup per token: their numbers (as floats), best first, then their
// shares of the softmax, over them with RENORMALISE and else over all. Each round takes the best of those after the
// last one taken; the lower number wins a tie. Logits are compared as integers in the same order, so that NaN has a
// place and every resulting number is one of an expert.
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// Key and number of each thread's best.
var<workgroup> best: array<vec2<u32>, WG>;
// Each thread's part of the sum over all experts.
var<workgroup> parts: array<f32, WG>;

fn key(bits: u32) -> u32 { return select(bits | 0x80000000u, ~bits, (bits >> 31u) != 0u); }

fn logit(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) != 0u)); }

fn before(a: vec2<u32>, b: vec2<u32>) -> bool { return a.x > b.x || (a.x == b.x && a.y < b.y); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let out = wid.z * 2u * USED;
    var shares: array<f32, USED>;
    var sum = 0.0;
    var top = 0.0;
    var last = vec2<u32>(0u);
    for (var i = 0u; i < USED; i++) {
        var mine = vec2<u32>(0u, 0xffffffffu);
        for (var e = tid; e < EXPERTS; e += WG) {
            let c = vec2<u32>(key(x[wid.z * X_STRIDE + X_AT + e]), e);
            if ((i == 0u || before(last, c)) && before(c, mine)) {
                mine = c;
            }
        }
        best[tid] = mine;
        workgroupBarrier();
        last = best[0];
        for (var j = 1u; j < WG; j++) {
            if (before(best[j], last)) {
                last = best[j];
            }
        }
        workgroupBarrier();
        if (i == 0u) {
            top = logit(last.x);
        }
        shares[i] = exp(max(logit(last.x) - top, -100.0));
        sum += shares[i];
        if (tid == 0u) {
            y[out + i] = f32(last.y);
        }
    }
    if (!RENORMALISE) {
        var part = 0.0;
        for (var e = tid; e < EXPERTS; e += WG) {
            part += exp(max(bitcast<f32>(x[wid.z * X_STRIDE + X_AT + e]) - top, -100.0));
        }
        parts[tid] = part;
        workgroupBarrier();
        sum = 0.0;
        for (var j = 0u; j < WG; j++) {
            sum += parts[j];
        }
    }
    if (tid == 0u) {
        for (var i = 0u; i < USED; i++) {
            y[out + USED + i] = shares[i] / sum;
        }
    }
}
