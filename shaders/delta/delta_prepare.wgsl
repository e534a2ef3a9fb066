// What all columns of a head's state share in the gated delta rule over a chunk of C tokens; one workgroup per chunk
// and head. With the state M before the chunk, P[i] the decay of M up to token i, and D[i][j] the decay of the change
// of token j up to token i, the changes c solve (I + L) c = b (v - P M^T k), where L[i][j] = b[i] D[i][j] k[i] . k[j]
// for j < i. This writes k and q with their factors, then for each head the inverse of I + L with b in its columns,
// A[i][j] = D[i][j] q[i] . k[j] for j <= i, P, and the last row of D. Decays are products of factors, not exponentials
// of differences: in sums of logarithms a large term rounds off the digits of the others.

// One row more than needed, so that neighbours of a row are in different banks.
const ROW: u32 = 2u * C + 1u;

// The rows of k, then those of q, a slice of C keys at a time and key-major; then L.
var<workgroup> staged: array<f32, C * ROW>;
// D, then the inverse.
var<workgroup> square: array<f32, C * C>;
var<workgroup> keeps: array<f32, C>;
var<workgroup> shares: array<f32, C>;
// Factors of the rows of k and of q.
var<workgroup> factors: array<f32, 2u * C>;

fn element(t0: u32, end: u32, row: u32, begin: u32, key: u32) -> f32 {
    let t = t0 + row % C;
    if (t >= end || key >= D) {
        return 0.0;
    }
    if (row < C) {
        return k_at(t, begin + key);
    }
    return q_at(t, begin + key);
}

fn square_v(i: u32) -> vec4<f32> { return vec4<f32>(square[i], square[i + 1u], square[i + 2u], square[i + 3u]); }

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let head = wid.x;
    let tile = tile_of(wid.z, C);
    let t0 = now.segment[tile.x].first + tile.y * C;
    let end = now.segment[tile.x].first + now.segment[tile.x].tokens;
    let begin = head % K_HEADS * D;
    // Each thread computes four rows by four columns of the products.
    let r0 = tid / 8u * 4u;
    let c0 = tid % 8u * 4u;
    var products: array<vec4<f32>, 4>;
    var squares = 0.0;
    for (var first = 0u; first < D; first += C) {
        for (var row = tid / C; row < 2u * C; row += 128u / C) {
            staged[tid % C * ROW + row] = element(t0, end, row, begin, first + tid % C);
        }
        workgroupBarrier();
        for (var p = 0u; p < C * ROW; p += ROW) {
            let b = vec4<f32>(staged[p + c0], staged[p + c0 + 1u], staged[p + c0 + 2u], staged[p + c0 + 3u]);
            for (var r = 0u; r < 4u; r++) {
                products[r] = fma(vec4<f32>(staged[p + r0 + r]), b, products[r]);
            }
            if (NORMED) {
                let v = staged[p + tid % (2u * C)];
                squares = fma(v, v, squares);
            }
        }
        workgroupBarrier();
    }
    let t = t0 + tid % C;
    if (tid < 2u * C) {
        factors[tid] = 1.0;
        if (NORMED && t < end) {
            factors[tid] = select(Q_SCALE, K_SCALE, tid < C) / sqrt(squares + EPS);
        }
    }
    if (tid < C) {
        // Tokens beyond the segment change nothing.
        keeps[tid] = 1.0;
        shares[tid] = 0.0;
        if (t < end) {
            keeps[tid] = keep_at(t, head);
            shares[tid] = share_at(t, head);
        }
    }
    workgroupBarrier();
    if (tid < C) {
        var p = 1.0;
        for (var i = 0u; i < C; i++) {
            p *= select(1.0, keeps[i], i > tid);
            square[i * C + tid] = select(0.0, p, i >= tid);
        }
    }
    workgroupBarrier();
    let out = wid.z * CHUNK_LEN + KEYS_LEN + head * HEAD_LEN;
    for (var r = 0u; r < 4u; r++) {
        let i = (r0 + r) % C;
        let b = vec4<f32>(factors[c0], factors[c0 + 1u], factors[c0 + 2u], factors[c0 + 3u]);
        let v = products[r] * factors[r0 + r] * b * square_v(i * C + c0);
        if (r0 < C) {
            for (var c = 0u; c < 4u; c++) {
                staged[i * C + c0 + c] = shares[i] * v[c];
            }
        } else {
            chunks[out + A_AT + (i * C + c0) / 4u] = v;
        }
    }
    if (tid < C / 4u) {
        let i = tid * 4u;
        chunks[out + P_AT + tid] =
            keeps[0] * vec4<f32>(square[i * C], square[(i + 1u) * C], square[(i + 2u) * C], square[(i + 3u) * C]);
        chunks[out + D_AT + tid] = square_v((C - 1u) * C + i);
    }
    workgroupBarrier();
    // One column of the inverse per thread: the columns are independent.
    if (tid < C) {
        for (var i = 0u; i < C; i++) {
            var s = select(0.0, 1.0, i == tid);
            for (var j = 0u; j < i; j++) {
                s = fma(-staged[i * C + j], square[j * C + tid], s);
            }
            square[i * C + tid] = s;
        }
    }
    workgroupBarrier();
    for (var n = tid; n < C * C / 4u; n += 128u) {
        let j = n * 4u % C;
        chunks[out + n] = square_v(n * 4u) * vec4<f32>(shares[j], shares[j + 1u], shares[j + 2u], shares[j + 3u]);
    }
    // For value heads that share keys, the first one writes them.
    if (head < K_HEADS) {
        for (var n = tid; n < KEYS * 2u * C; n += 128u) {
            let row = n % (2u * C);
            let key = n / (2u * C) * 4u;
            let v = vec4<f32>(
                element(t0, end, row, begin, key), element(t0, end, row, begin, key + 1u),
                element(t0, end, row, begin, key + 2u), element(t0, end, row, begin, key + 3u));
            chunks[wid.z * CHUNK_LEN + head * KEYS * 2u * C + n] = factors[row] * v;
        }
    }
}
