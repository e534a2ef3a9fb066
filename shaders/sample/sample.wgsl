// Chooses a token from each row of logits as `engine::sampler` does, in one workgroup a row.
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
@group(0) @binding(1) var<uniform> hows: array<How, ROWS>;
@group(0) @binding(2) var<storage, read_write> logits: array<u32>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
// Of each row what the host reads, and the token that the next step runs. With a report, of a single row: the logarithm of
// the sum of all exponentials of logits, the chosen token's logit, and the likeliest tokens, each with its logit.
@group(0) @binding(4) var<storage, read_write> chosen: array<u32>;
// Of each row a bit for each token.
@group(0) @binding(5) var<storage, read> allowed: array<u32>;

// Faults in place of a token, as `sample.rs` reads them.
const NOT_FINITE = 0xffffffffu;
const ALL_EQUAL = 0xfffffffeu;
const NONE_LEFT = 0xfffffffdu;

const INFINITE = 0xff800000u;
const MINUS_INFINITE = 0x007fffffu;

// The largest top_k.
const MOST = 64u;

fn top_k(row: u32) -> u32 { return hows[row].likeliest & 0x7fffu; }
fn masked(row: u32) -> bool { return (hows[row].likeliest & 0x8000u) != 0u; }
fn reported(row: u32) -> u32 { return hows[row].likeliest >> 16u; }

// Threads that reduce the values of all threads, before they are compared.
const FOLD: u32 = min(WG, 32u);

var<workgroup> pairs: array<vec2<u32>, WG>;
var<workgroup> sums: array<f32, WG>;
var<workgroup> front: array<vec2<u32>, MOST>;
var<workgroup> kept: u32;
var<workgroup> accepted: u32;

// Token i as (key, number). Both zeros have the same key.
fn token(row: u32, i: u32) -> vec2<u32> {
    let bits = logits[row * VOCAB + i];
    return vec2<u32>(key_of(select(bits, 0u, bits == 0x80000000u)), i);
}

// The first, in order, of the threads' values; returned to all threads.
fn first(tid: u32, mine: vec2<u32>) -> vec2<u32> {
    workgroupBarrier();
    pairs[tid] = mine;
    workgroupBarrier();
    if (WG > FOLD) {
        for (var i = tid + FOLD; tid < FOLD && i < WG; i += FOLD) {
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

// Penalises the logits of the last tokens. The thread of a token's first occurrence among them does it.
fn penalise(row: u32, tid: u32) {
    let start = hows[row].end - hows[row].recent;
    for (var j = tid; j < hows[row].recent; j += WG) {
        let id = history[start + j];
        var count = 0u;
        var is_first = id < VOCAB;
        for (var m = 0u; m < hows[row].recent; m++) {
            if (history[start + m] == id) {
                count++;
                is_first = is_first && m >= j;
            }
        }
        if (is_first) {
            var l = bitcast<f32>(logits[row * VOCAB + id]);
            l = select(l / hows[row].repeat, l * hows[row].repeat, l <= 0.0);
            let bits = bitcast<u32>(l - (f32(count) * hows[row].frequency + hows[row].presence));
            // Non-finite values become -inf.
            logits[row * VOCAB + id] = select(bits, 0xff800000u, (bits & 0x7f800000u) == 0x7f800000u);
        }
    }
}

// The logit relative to the largest, divided by the temperature.
fn heat(row: u32, l: f32, top: f32) -> f32 { return max((l - top) / hows[row].temperature, -1e30); }

// The best four of a thread's tokens after a given one.
struct Heads { a: vec2<u32>, b: vec2<u32>, c: vec2<u32>, d: vec2<u32> }

fn heads_after(row: u32, tid: u32, last: vec2<u32>) -> Heads {
    var h = Heads(NONE, NONE, NONE, NONE);
    for (var i = tid; i < VOCAB; i += WG) {
        let t = token(row, i);
        if (t.x > MINUS_INFINITE && before(last, t) && before(t, h.d)) {
            if (before(t, h.a)) {
                h = Heads(t, h.a, h.b, h.c);
            } else if (before(t, h.b)) {
                h = Heads(h.a, t, h.b, h.c);
            } else if (before(t, h.c)) {
                h = Heads(h.a, h.b, t, h.c);
            } else {
                h.d = t;
            }
        }
    }
    return h;
}

// How many tokens of the front top-p and min-p keep.
fn keep(row: u32) -> u32 {
    var n = 0u;
    while (n < top_k(row) && front[n].x > MINUS_INFINITE) {
        n++;
    }
    let top = value_of(front[0].x);
    if (hows[row].top_p < 1.0) {
        var whole = 0.0;
        for (var i = 0u; i < n; i++) {
            whole += exp(value_of(front[i].x) - top);
        }
        var sum = 0.0;
        for (var i = 0u; i < n; i++) {
            sum += exp(value_of(front[i].x) - top);
            if (sum >= hows[row].top_p * whole) {
                n = i + 1u;
            }
        }
    }
    while (n > 1u && value_of(front[n - 1u].x) < top + hows[row].least) {
        n--;
    }
    return n;
}

// Puts the n likeliest to the front: they are taken one by one from the threads' best.
fn take_front(row: u32, tid: u32, n: u32) {
    var heads = heads_after(row, tid, vec2<u32>(0xffffffffu, 0u));
    for (var i = 0u; i < n; i++) {
        let best = first(tid, heads.a);
        if (tid == 0u) {
            front[i] = best;
        }
        if (best.x != 0u && best.y == heads.a.y) {
            heads = Heads(heads.b, heads.c, heads.d, NONE);
            if (heads.a.x == 0u) {
                heads = heads_after(row, tid, best);
            }
        }
    }
}

// How likely tokens are: the sum of all, and the likeliest.
fn report(row: u32, tid: u32, n: u32, top: f32) {
    var mine = 0.0;
    for (var i = tid; i < VOCAB; i += WG) {
        let t = token(row, i);
        if (t.x > MINUS_INFINITE) {
            mine += exp(value_of(t.x) - top);
        }
    }
    let all = top + log(total(tid, mine));
    take_front(row, tid, n);
    if (tid == 0u) {
        chosen[2] = bitcast<u32>(all);
        for (var i = 0u; i < n; i++) {
            chosen[4u + 2u * i] = front[i].y;
            chosen[5u + 2u * i] = bitcast<u32>(value_of(max(front[i].x, MINUS_INFINITE)));
        }
    }
}

// Draws among the top_k likeliest.
fn draw_of_front(row: u32, tid: u32, top: f32) -> u32 {
    take_front(row, tid, top_k(row));
    if (tid == 0u) {
        kept = keep(row);
    }
    let n = workgroupUniformLoad(&kept);
    var mine = NONE;
    for (var i = tid; i < n; i += WG) {
        let t = front[i];
        let score = vec2<u32>(key_of(bitcast<u32>(heat(row, value_of(t.x), top) + gumbel(hows[row].key, t.y))), t.y);
        if (before(score, mine)) {
            mine = score;
        }
    }
    return first(tid, mine).y;
}

// Draws among all. If that gives a token outside of top_p, all less likely tokens are outside too, and it draws again
// among the likelier ones: the result is the same as if all those had been excluded at first.
fn draw_of_all(row: u32, tid: u32, top: vec2<u32>) -> u32 {
    let largest = value_of(top.x);
    var choice = NONE.y;
    var bound = NONE;
    loop {
        var mine = NONE;
        var score = -1e38;
        for (var i = tid; i < VOCAB; i += WG) {
            let t = token(row, i);
            let l = value_of(t.x);
            if (t.x > MINUS_INFINITE && before(t, bound) && l >= largest + hows[row].least) {
                let h = heat(row, l, largest);
                if (h + MAX_GUMBEL >= score) {
                    let s = h + gumbel(hows[row].key, i);
                    if (s > score) { // among equals the lower id came first
                        score = s;
                        mine = vec2<u32>(key_of(bitcast<u32>(s)), i);
                    }
                }
            }
        }
        choice = first(tid, mine).y;
        if (hows[row].top_p >= 1.0) {
            break;
        }
        let found = token(row, min(choice, VOCAB - 1u));
        var likelier = 0.0;
        var whole = 0.0;
        for (var i = tid; i < VOCAB; i += WG) {
            let t = token(row, i);
            if (t.x > MINUS_INFINITE) {
                let weight = exp(value_of(t.x) - largest);
                whole += weight;
                likelier += select(0.0, weight, before(t, found));
            }
        }
        likelier = total(tid, likelier);
        whole = total(tid, whole);
        if (tid == 0u) {
            // If no token is left the logits are not numbers.
            accepted = u32(likelier < hows[row].top_p * whole || choice == top.y || choice == NONE.y);
        }
        if (workgroupUniformLoad(&accepted) != 0u) {
            break;
        }
        bound = found;
    }
    return choice;
}

// The likeliest; `low` becomes the smallest key of this thread's tokens.
fn best_of(row: u32, tid: u32, low: ptr<function, u32>) -> vec2<u32> {
    var mine = NONE;
    for (var i = tid; i < VOCAB; i += WG) {
        let t = token(row, i);
        *low = min(*low, t.x);
        if (before(t, mine)) {
            mine = t;
        }
    }
    return first(tid, mine);
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = select(0u, group.x, ROWS > 1u);
    var low = NONE.y;
    var top = best_of(row, tid, &low);
    low = ~first(tid, vec2<u32>(~low, 0u)).x;
    var fault = 0u;
    if (top.x >= INFINITE || low < MINUS_INFINITE) {
        fault = NOT_FINITE;
    } else if (top.x == MINUS_INFINITE || (top.x == low && VOCAB > 1u)) {
        fault = ALL_EQUAL;
    }
    for (var i = tid; i < hows[row].suppressed.y; i += WG) {
        logits[row * VOCAB + history[hows[row].suppressed.x + i]] = 0xff800000u;
    }
    for (var i = tid; masked(row) && i < VOCAB; i += WG) {
        if (((allowed[row * ((VOCAB + 31u) / 32u) + i / 32u] >> (i % 32u)) & 1u) == 0u) {
            logits[row * VOCAB + i] = 0xff800000u;
        }
    }
    if (hows[row].recent > 0u || hows[row].suppressed.y > 0u || masked(row)) {
        storageBarrier();
        if (hows[row].recent > 0u) {
            penalise(row, tid);
            storageBarrier();
        }
        var lowest = low;
        top = best_of(row, tid, &lowest);
    }
    if (fault == 0u && top.x <= MINUS_INFINITE) {
        fault = NONE_LEFT;
    }
    if (reported(row) > 0u) {
        report(row, tid, reported(row) - 1u, value_of(top.x));
    }
    var id = top.y;
    if (hows[row].temperature > 0.0) {
        if (top_k(row) > 0u) {
            id = draw_of_front(row, tid, value_of(top.x));
        } else {
            id = draw_of_all(row, tid, top);
        }
    }
    if (tid == 0u) {
        chosen[2u * row] = select(fault, id, fault == 0u);
        // A step that runs it may have been started already; nothing reads the result, so any token will do.
        chosen[2u * row + 1u] = select(0u, id, fault == 0u);
        if (ROWS == 1u) {
            history[hows[row].end] = chosen[1];
        }
        if (reported(row) > 0u) {
            chosen[3] = logits[chosen[1]];
        }
    }
}
