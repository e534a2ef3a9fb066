// Attention of TOKENS tokens of GROUP query heads of one kv head: one workgroup, which reads each key and value once
// for all of these rows. Keys come in tiles of 32, heads in chunks of 8 vectors, so that workgroup memory does not grow
// with the head size. Thread (a, b) of 8 x 8 has rows a + 8 j, keys b + 8 m of a tile, and vector b of each chunk of
// the result. The softmax is online: `top` is the largest score of a row so far, and the sums are rescaled when it
// grows.
const CHUNKS: u32 = (N + 7u) / 8u;
// The stride of a key is one vector more than a chunk: neighbours then read from different banks.
const STRIDE: u32 = 9u;
// Less than any score. Not -inf: fast-math compilers may assume that there is none.
const NEVER: f32 = -3.4e38;

var<workgroup> queries: array<V, R * 64u>;
// Keys, then values.
var<workgroup> keys: array<V, 32u * STRIDE>;
var<workgroup> probs: array<vec4<f32>, R * 64u>;
var<workgroup> shared_rows: array<f32, R * 64u>;

fn decay(x: f32) -> f32 { return exp(max(x, -100.0)); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let a = tid / 8u;
    let b = tid % 8u;
    let at_z = tile_of(wid.z + now.skipped, TOKENS);
    let segment = now.segment[at_z.x];
    let last = segment.first + segment.tokens - 1u;
    // Tiles with the most keys start first.
    let t0 = segment.first + ((segment.tokens - 1u) / TOKENS - at_z.y) * TOKENS;
    let table = row_table(t0);
    let pos = row_pos(t0);
    let head0 = wid.x * GROUP;
    let kv_head = head0 / (HEADS / KV_HEADS);
    // Without a causal mask all tokens of the segment are seen.
    let end = pos + min(select(last + 1u, TOKENS, CAUSAL == 1u), last + 1u - t0);
    let start = select(0u, pos + 1u - min(WINDOW, pos + 1u), WINDOW > 0u);
    var at: array<u32, R>;
    var seen: array<u32, R>;
    var top: array<f32, R>;
    var total: array<f32, R>;
    var sum: array<V, R * CHUNKS>;
    for (var j = 0u; j < R; j++) {
        // Rows beyond the tile or the segment repeat the last one.
        let token = min(t0 + min((a + 8u * j) / GROUP, TOKENS - 1u), last);
        at[j] = (token * HEADS + head0 + (a + 8u * j) % GROUP) * N;
        seen[j] = pos + (token - t0) + 1u;
        top[j] = NEVER;
    }
    for (var base = start; base < end; base += 32u) {
        // Explicit zeros: some compilers do not initialise variables declared in a loop again.
        var s: array<vec4<f32>, R>;
        for (var j = 0u; j < R; j++) {
            s[j] = vec4<f32>(0.0);
        }
        var rows_of: array<u32, 4>;
        for (var m = 0u; m < 4u; m++) {
            rows_of[m] = kv_row(table, min(base + a + 8u * m, end - 1u));
        }
        for (var c = 0u; c < CHUNKS; c++) {
            let i = c * 8u + b;
            let whole = i < N;
            workgroupBarrier();
            for (var j = 0u; j < R; j++) {
                queries[j * 64u + tid] = select(V(0.0), q[at[j] + min(i, N - 1u)] * SCALE, whole);
            }
            for (var m = 0u; m < 4u; m++) {
                let key = k_at(rows_of[m], kv_head, min(i, N - 1u));
                keys[(a + 8u * m) * STRIDE + b] = select(V(0.0), key, whole);
            }
            workgroupBarrier();
            for (var k = 0u; k < 8u; k++) {
                let key = array(
                    keys[b * STRIDE + k], keys[(b + 8u) * STRIDE + k],
                    keys[(b + 16u) * STRIDE + k], keys[(b + 24u) * STRIDE + k]);
                for (var j = 0u; j < R; j++) {
                    let query = queries[(a + 8u * j) * 8u + k];
                    s[j] = vec4<f32>(
                        fma_v(query, key[0], s[j].x), fma_v(query, key[1], s[j].y),
                        fma_v(query, key[2], s[j].z), fma_v(query, key[3], s[j].w));
                }
            }
        }
        let mine = vec4<u32>(base + b, base + b + 8u, base + b + 16u, base + b + 24u);
        for (var j = 0u; j < R; j++) {
            var hidden = mine >= vec4<u32>(select(end, seen[j], CAUSAL == 1u));
            if (WINDOW > 0u) {
                hidden |= mine + WINDOW < vec4<u32>(seen[j]);
                if (CAUSAL == 0u) {
                    hidden |= mine + 1u >= vec4<u32>(seen[j] + WINDOW);
                }
            }
            let scores = vec4<f32>(capped(s[j].x), capped(s[j].y), capped(s[j].z), capped(s[j].w));
            s[j] = select(scores, vec4<f32>(NEVER), hidden);
            shared_rows[j * 64u + tid] = max(max(s[j].x, s[j].y), max(s[j].z, s[j].w));
        }
        workgroupBarrier();
        var keep: array<f32, R>;
        for (var j = 0u; j < R; j++) {
            var most = top[j];
            for (var l = 0u; l < 8u; l++) {
                most = max(most, shared_rows[j * 64u + a * 8u + l]);
            }
            let x = max(s[j] - most, vec4<f32>(-100.0));
            let p = select(exp(x), vec4<f32>(0.0), s[j] == vec4<f32>(NEVER));
            probs[j * 64u + tid] = p;
            keep[j] = decay(top[j] - most);
            total[j] = fma(total[j], keep[j], (p.x + p.y) + (p.z + p.w));
            top[j] = most;
        }
        for (var c = 0u; c < CHUNKS; c++) {
            workgroupBarrier();
            for (var m = 0u; m < 4u; m++) {
                keys[(a + 8u * m) * STRIDE + b] = v_at(rows_of[m], kv_head, min(c * 8u + b, N - 1u));
            }
            workgroupBarrier();
            var more: array<V, R>;
            for (var j = 0u; j < R; j++) {
                more[j] = sum[c * R + j] * keep[j];
            }
            for (var k = 0u; k < 8u; k++) {
                let value = array(
                    keys[k * STRIDE + b], keys[(k + 8u) * STRIDE + b],
                    keys[(k + 16u) * STRIDE + b], keys[(k + 24u) * STRIDE + b]);
                for (var j = 0u; j < R; j++) {
                    let p = probs[(a + 8u * j) * 8u + k];
                    more[j] = fma(V(p.x), value[0], more[j]);
                    more[j] = fma(V(p.y), value[1], more[j]);
                    more[j] = fma(V(p.z), value[2], more[j]);
                    more[j] = fma(V(p.w), value[3], more[j]);
                }
            }
            for (var j = 0u; j < R; j++) {
                sum[c * R + j] = more[j];
            }
        }
    }
    for (var j = 0u; j < R; j++) {
        shared_rows[j * 64u + tid] = total[j];
    }
    workgroupBarrier();
    for (var j = 0u; j < R; j++) {
        var all = 0.0;
        for (var l = 0u; l < 8u; l++) {
            all += shared_rows[j * 64u + a * 8u + l];
        }
        let row = a + 8u * j;
        let token = t0 + row / GROUP;
        for (var c = 0u; c < CHUNKS; c++) {
            let i = c * 8u + b;
            if (row < TOKENS * GROUP && token <= last && i < N) {
                y[at[j] + i] = gated(token, (head0 + row % GROUP) * N + i, sum[c * R + j] / all);
            }
        }
    }
}
