// Chooses a token from each row of logits as `engine::sampler` does, in one workgroup a row, after `sample_parts`.

// Of each row what the host reads, and the token that the next step runs. With a report, of a single row: the logarithm of
// the sum of all exponentials of logits, the chosen token's logit, and the likeliest tokens, each with its logit.
@group(0) @binding(5) var<storage, read_write> chosen: array<u32>;

// Faults in place of a token, as `sample.rs` reads them.
const NOT_FINITE = 0xffffffffu;
const ALL_EQUAL = 0xfffffffeu;
const NONE_LEFT = 0xfffffffdu;

const INFINITE = 0xff800000u;

var<workgroup> front: array<vec2<u32>, MOST>;
var<workgroup> kept: u32;
var<workgroup> accepted: u32;

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

// Puts the n likeliest to the front: they are taken one by one from the lists of the parts.
fn take_front(row: u32, tid: u32, n: u32) {
    var at = 0u;
    var mine = NONE;
    if (tid < PARTS) {
        mine = parts[row * PARTS + tid].list[0];
    }
    for (var i = 0u; i < n; i++) {
        let best = first(tid, PARTS, mine);
        if (tid == 0u) {
            front[i] = best;
        }
        if (best.x != 0u && best.y == mine.y) {
            at++;
            mine = NONE;
            if (at < n) {
                mine = parts[row * PARTS + tid].list[at];
            }
        }
    }
}

// The sum of exponentials of all logits over the largest.
fn weight(row: u32, tid: u32, top: f32) -> f32 {
    var mine = 0.0;
    for (var p = row * PARTS + tid; p < (row + 1u) * PARTS; p += WG) {
        if (parts[p].best.x > MINUS_INFINITE) {
            mine += parts[p].weight * exp(value_of(parts[p].best.x) - top);
        }
    }
    return total(tid, mine);
}

// How likely tokens are: the sum of all, and the likeliest.
fn report(row: u32, tid: u32, n: u32, top: f32) {
    let all = top + log(weight(row, tid, top));
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
    return first(tid, WG, mine).y;
}

// Draws among all with a temperature alone: among what the parts drew.
fn draw_of_parts(row: u32, tid: u32, top: f32) -> u32 {
    var mine = NONE;
    for (var p = row * PARTS + tid; p < (row + 1u) * PARTS; p += WG) {
        let id = parts[p].drawn;
        if (id < VOCAB) {
            let l = value_of(token(row, id).x);
            let score = vec2<u32>(key_of(bitcast<u32>(heat(row, l, top) + gumbel(hows[row].key, id))), id);
            if (before(score, mine)) {
                mine = score;
            }
        }
    }
    return first(tid, WG, mine).y;
}

// Draws among all. If that gives a token outside of top_p, all less likely tokens are outside too, and it draws again
// among the likelier ones: the result is the same as if all those had been excluded at first.
fn draw_of_all(row: u32, tid: u32, top: vec2<u32>) -> u32 {
    let largest = value_of(top.x);
    let whole = weight(row, tid, largest);
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
        choice = first(tid, WG, mine).y;
        if (hows[row].top_p >= 1.0) {
            break;
        }
        let found = token(row, min(choice, VOCAB - 1u));
        var likelier = 0.0;
        for (var i = tid; i < VOCAB; i += WG) {
            let t = token(row, i);
            if (t.x > MINUS_INFINITE && before(t, found)) {
                likelier += exp(value_of(t.x) - largest);
            }
        }
        likelier = total(tid, likelier);
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

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let row = select(0u, group.x, ROWS > 1u);
    var mine = NONE;
    var bounds = vec2<u32>(0u, NONE.y);
    for (var p = row * PARTS + tid; p < (row + 1u) * PARTS; p += WG) {
        let part = &parts[p];
        if (before((*part).best, mine)) {
            mine = (*part).best;
        }
        bounds = vec2<u32>(max(bounds.x, (*part).high), min(bounds.y, (*part).low));
    }
    let top = first(tid, PARTS, mine);
    let high = first(tid, PARTS, vec2<u32>(bounds.x, 0u)).x;
    let low = ~first(tid, PARTS, vec2<u32>(~bounds.y, 0u)).x;
    var fault = 0u;
    if (high >= INFINITE || low < MINUS_INFINITE) {
        fault = NOT_FINITE;
    } else if (high == MINUS_INFINITE || (high == low && VOCAB > 1u)) {
        fault = ALL_EQUAL;
    }
    if (fault == 0u && top.x <= MINUS_INFINITE) {
        fault = NONE_LEFT;
    }
    if (reported(row) > 0u) {
        report(row, tid, reported(row) - 1u, value_of(top.x));
    }
    var id = top.y;
    if (hows[row].temperature > 0.0) {
        if (drawn_of_all(row)) {
            id = draw_of_parts(row, tid, value_of(top.x));
        } else if (top_k(row) > 0u) {
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
