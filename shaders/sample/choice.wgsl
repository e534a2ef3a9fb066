// What both kernels of `sample` know: how a token is chosen, and what the first one found in each part of a row.
struct How {
    step: vec4<u32>,
    // Key of this draw's random numbers.
    key: u32,
    // How many of the likeliest tokens count (0 is all); in bit 15 whether only those of the mask do; and above 16 bits one
    // more than how many are reported, or 0.
    likeliest: u32,
    // Tokens at the end of the history that are penalised.
    recent: u32,
    // Tokens in the history; the chosen one is appended.
    end: u32,
    // 0 takes the likeliest.
    temperature: f32,
    top_p: f32,
    // Logits less than the largest plus this do not count (min-p).
    least: f32,
    repeat: f32,
    frequency: f32,
    presence: f32,
    // After the history: the start of the tokens that must never be generated, and their number.
    suppressed: vec2<u32>,
}
struct Part {
    // The likeliest token that may be chosen.
    best: vec2<u32>,
    // The largest and the smallest key of all, before masks and penalties.
    high: u32,
    low: u32,
    // The token that a draw with a temperature alone would choose here.
    drawn: u32,
    // The sum of exponentials of logits over the best one's.
    weight: f32,
    // The likeliest tokens, in order.
    list: array<vec2<u32>, MOST>,
}
@group(0) @binding(1) var<uniform> hows: array<How, ROWS>;
@group(0) @binding(2) var<storage, read_write> logits: array<u32>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
// PARTS of each row.
@group(0) @binding(4) var<storage, read_write> parts: array<Part>;

const MINUS_INFINITE = 0x007fffffu;

// The largest top_k.
const MOST = 64u;

fn top_k(row: u32) -> u32 { return hows[row].likeliest & 0x7fffu; }
fn masked(row: u32) -> bool { return (hows[row].likeliest & 0x8000u) != 0u; }
fn reported(row: u32) -> u32 { return hows[row].likeliest >> 16u; }
fn drawn(row: u32) -> bool { return hows[row].temperature > 0.0; }

// Whether it draws among all tokens with a temperature alone.
fn drawn_of_all(row: u32) -> bool {
    return drawn(row) && top_k(row) == 0u && hows[row].top_p >= 1.0 && hows[row].least < -1e37;
}

// Whether the sum of exponentials is needed.
fn weighed(row: u32) -> bool { return reported(row) > 0u || (drawn(row) && top_k(row) == 0u && hows[row].top_p < 1.0); }

// How many of the likeliest are needed.
fn listed(row: u32) -> u32 {
    return max(select(0u, top_k(row), drawn(row)), max(reported(row), 1u) - 1u);
}

// Threads that reduce the values of all threads, before they are compared.
const FOLD: u32 = min(WG, 32u);

var<workgroup> pairs: array<vec2<u32>, WG>;
var<workgroup> sums: array<f32, WG>;

// Token i as (key, number). Both zeros have the same key.
fn token(row: u32, i: u32) -> vec2<u32> {
    let bits = logits[row * VOCAB + i];
    return vec2<u32>(key_of(select(bits, 0u, bits == 0x80000000u)), i);
}

// The first, in order, of the values of the first n threads; returned to all threads.
fn first(tid: u32, n: u32, mine: vec2<u32>) -> vec2<u32> {
    workgroupBarrier();
    pairs[tid] = mine;
    workgroupBarrier();
    if (WG > FOLD) {
        for (var i = tid + FOLD; tid < FOLD && i < n; i += FOLD) {
            if (before(pairs[i], pairs[tid])) {
                pairs[tid] = pairs[i];
            }
        }
        workgroupBarrier();
    }
    var best = pairs[0];
    for (var i = 1u; i < FOLD; i++) {
        if (before(pairs[i], best)) {
            best = pairs[i];
        }
    }
    return best;
}

fn total(tid: u32, mine: f32) -> f32 {
    workgroupBarrier();
    sums[tid] = mine;
    workgroupBarrier();
    if (WG > FOLD) {
        for (var i = tid + FOLD; tid < FOLD && i < WG; i += FOLD) {
            sums[tid] += sums[i];
        }
        workgroupBarrier();
    }
    var sum = 0.0;
    for (var i = 0u; i < FOLD; i++) {
        sum += sums[i];
    }
    return sum;
}

// The logit relative to the largest, divided by the temperature.
fn heat(row: u32, l: f32, top: f32) -> f32 { return max((l - top) / hows[row].temperature, -1e30); }
