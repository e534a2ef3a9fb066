// The first kernel of `sample`, a workgroup for each part of a row: rules out tokens, penalises them, and finds what the choice
// among all needs to know of these.

// Of each row a bit for each token.
@group(0) @binding(5) var<storage, read> allowed: array<u32>;

// Tokens of a part.
const STRETCH: u32 = (VOCAB + PARTS - 1u) / PARTS;

// Penalises the logits of the last tokens. The thread of a token's first occurrence among them does it.
fn penalise(row: u32, tid: u32, start: u32, end: u32) {
    let recent_at = hows[row].end - hows[row].recent;
    for (var j = tid; j < hows[row].recent; j += WG) {
        let id = history[recent_at + j];
        if (id < start || id >= end) {
            continue;
        }
        var count = 0u;
        var is_first = true;
        for (var m = 0u; m < hows[row].recent; m++) {
            if (history[recent_at + m] == id) {
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

// The best four of a thread's tokens after a given one.
struct Heads { a: vec2<u32>, b: vec2<u32>, c: vec2<u32>, d: vec2<u32> }

fn heads_after(row: u32, first_id: u32, end: u32, last: vec2<u32>) -> Heads {
    var h = Heads(NONE, NONE, NONE, NONE);
    for (var i = first_id; i < end; i += WG) {
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

// Lists the n likeliest: they are taken one by one from the threads' best.
fn list(row: u32, tid: u32, part: u32, start: u32, end: u32, n: u32) {
    var heads = heads_after(row, start + tid, end, vec2<u32>(0xffffffffu, 0u));
    for (var i = 0u; i < n; i++) {
        let best = first(tid, WG, heads.a);
        if (tid == 0u) {
            parts[part].list[i] = best;
        }
        if (best.x != 0u && best.y == heads.a.y) {
            heads = Heads(heads.b, heads.c, heads.d, NONE);
            if (heads.a.x == 0u) {
                heads = heads_after(row, start + tid, end, best);
            }
        }
    }
}

// The likeliest; `low` becomes the smallest key of this thread's tokens.
fn best_of(row: u32, tid: u32, start: u32, end: u32, low: ptr<function, u32>) -> vec2<u32> {
    var mine = NONE;
    for (var i = start + tid; i < end; i += WG) {
        let t = token(row, i);
        *low = min(*low, t.x);
        if (before(t, mine)) {
            mine = t;
        }
    }
    return first(tid, WG, mine);
}

// The likeliest after random numbers were added.
fn draw(row: u32, tid: u32, start: u32, end: u32, top: f32) -> u32 {
    var mine = NONE;
    var score = -1e38;
    for (var i = start + tid; i < end; i += WG) {
        let t = token(row, i);
        let h = heat(row, value_of(t.x), top);
        if (t.x > MINUS_INFINITE && h + MAX_GUMBEL >= score) {
            let s = h + gumbel(hows[row].key, i);
            if (s > score) { // among equals the lower id came first
                score = s;
                mine = vec2<u32>(key_of(bitcast<u32>(s)), i);
            }
        }
    }
    return first(tid, WG, mine).y;
}

fn weight(row: u32, tid: u32, start: u32, end: u32, top: f32) -> f32 {
    var mine = 0.0;
    for (var i = start + tid; i < end; i += WG) {
        let t = token(row, i);
        if (t.x > MINUS_INFINITE) {
            mine += exp(value_of(t.x) - top);
        }
    }
    return total(tid, mine);
}

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = select(0u, group.y, ROWS > 1u);
    let part = row * PARTS + group.x;
    let start = min(group.x * STRETCH, VOCAB);
    let end = min(start + STRETCH, VOCAB);
    var low = NONE.y;
    var top = best_of(row, tid, start, end, &low);
    low = ~first(tid, WG, vec2<u32>(~low, 0u)).x;
    let high = top.x;
    for (var i = tid; i < hows[row].suppressed.y; i += WG) {
        let id = history[hows[row].suppressed.x + i];
        if (id >= start && id < end) {
            logits[row * VOCAB + id] = 0xff800000u;
        }
    }
    for (var i = start + tid; masked(row) && i < end; i += WG) {
        if (((allowed[row * ((VOCAB + 31u) / 32u) + i / 32u] >> (i % 32u)) & 1u) == 0u) {
            logits[row * VOCAB + i] = 0xff800000u;
        }
    }
    if (hows[row].recent > 0u || hows[row].suppressed.y > 0u || masked(row)) {
        storageBarrier();
        if (hows[row].recent > 0u) {
            penalise(row, tid, start, end);
            storageBarrier();
        }
        var lowest = low;
        top = best_of(row, tid, start, end, &lowest);
    }
    var id = 0u;
    if (drawn_of_all(row)) {
        id = draw(row, tid, start, end, value_of(top.x));
    }
    var all = 0.0;
    if (weighed(row)) {
        all = weight(row, tid, start, end, value_of(top.x));
    }
    if (listed(row) > 0u) {
        list(row, tid, part, start, end, listed(row));
    }
    if (tid == 0u) {
        parts[part].best = top;
        parts[part].high = high;
        parts[part].low = low;
        parts[part].drawn = id;
        parts[part].weight = all;
    }
}
